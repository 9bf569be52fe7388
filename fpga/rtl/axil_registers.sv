// AXI4-Lite slave with the register map of fpga/README.md.  One access at a time; writes need all four strobes.
`default_nettype none
module axil_registers #(
    parameter logic [31:0] CAPS0 = '0,
    parameter logic [31:0] CAPS1 = '0,
    parameter logic [31:0] CAPS2 = '0,
    parameter int ADDR_BITS = 8
) (
    input  wire  logic                               clk,
    input  wire  logic                               rst,
    input  wire  logic [ADDR_BITS-1:0]               s_axil_awaddr,
    input  wire  logic [2:0]                         s_axil_awprot,
    input  wire  logic                               s_axil_awvalid,
    output       logic                               s_axil_awready,
    input  wire  logic [31:0]                        s_axil_wdata,
    input  wire  logic [3:0]                         s_axil_wstrb,
    input  wire  logic                               s_axil_wvalid,
    output       logic                               s_axil_wready,
    output       logic [1:0]                         s_axil_bresp,
    output       logic                               s_axil_bvalid,
    input  wire  logic                               s_axil_bready,
    input  wire  logic [ADDR_BITS-1:0]               s_axil_araddr,
    input  wire  logic [2:0]                         s_axil_arprot,
    input  wire  logic                               s_axil_arvalid,
    output       logic                               s_axil_arready,
    output       logic [31:0]                        s_axil_rdata,
    output       logic [1:0]                         s_axil_rresp,
    output       logic                               s_axil_rvalid,
    input  wire  logic                               s_axil_rready,
    // controls
    output       logic                               load_request,
    output       logic                               run_request,
    output       logic                               reset_request,
    output       logic                               irq_enable,
    output       logic                               send_predictions,
    output       logic                               send_logits,
    output       logic [31:0]                        image_count,
    output       logic [31:0]                        watchdog_limit,
    // state
    input  wire  logic [31:0]                        status,
    input  wire  logic [31:0]                        correct,
    input  wire  logic [31:0]                        images_done,
    input  wire  logic [31:0]                        cycles,
    input  wire  logic [31:0]                        model_crc,
    output       logic [overlay_pkg::LAYER_BITS-1:0] cycles_index,
    input  wire  logic [31:0]                        layer_cycles
);
  localparam logic [1:0] OKAY = 2'b00;
  localparam logic [1:0] SLVERR = 2'b10;

  // ---- write
  wire write = s_axil_awvalid & s_axil_wvalid & (~s_axil_bvalid | s_axil_bready);
  wire writable = s_axil_awaddr == 8'h14 | s_axil_awaddr == 8'h18 | s_axil_awaddr == 8'h20 | s_axil_awaddr == 8'h2C;
  wire accepted = write & writable & (&s_axil_wstrb);
  assign s_axil_awready = write;
  assign s_axil_wready  = write;

  always_ff @(posedge clk) begin
    load_request  <= 1'b0;
    run_request   <= 1'b0;
    reset_request <= 1'b0;
    if (s_axil_bready) s_axil_bvalid <= 1'b0;
    if (write) begin
      s_axil_bvalid <= 1'b1;
      s_axil_bresp  <= accepted ? OKAY : SLVERR;
    end
    if (accepted)
      case (s_axil_awaddr)
        8'h14: {reset_request, run_request, load_request} <= s_axil_wdata[2:0];
        8'h18: {send_logits, send_predictions, irq_enable} <= s_axil_wdata[2:0];
        8'h20: image_count <= s_axil_wdata;
        default: watchdog_limit <= s_axil_wdata;
      endcase
    if (rst) begin
      s_axil_bvalid    <= 1'b0;
      load_request     <= 1'b0;
      run_request      <= 1'b0;
      reset_request    <= 1'b0;
      irq_enable       <= 1'b0;
      send_predictions <= 1'b0;
      send_logits      <= 1'b0;
      image_count      <= '0;
      watchdog_limit   <= 32'd1_000_000;
    end
  end

  // ---- read: the address is latched, the layer table answers a cycle later, then the value is taken
  logic [ADDR_BITS-1:0] addr;
  logic [1:0] pending;
  assign s_axil_arready = ~|pending & ~s_axil_rvalid;
  assign cycles_index   = addr[5:2];

  logic [31:0] value, value_q;
  always_ff @(posedge clk) value_q <= value;
  always_comb
    case (addr)
      8'h00: value = overlay_pkg::OVERLAY_ID;
      8'h04: value = overlay_pkg::OVERLAY_VERSION;
      8'h08: value = CAPS0;
      8'h0C: value = CAPS1;
      8'h10: value = CAPS2;
      8'h18: value = {29'd0, send_logits, send_predictions, irq_enable};
      8'h1C: value = status;
      8'h20: value = image_count;
      8'h24: value = correct;
      8'h28: value = cycles;
      8'h2C: value = watchdog_limit;
      8'h30: value = images_done;
      8'h34: value = model_crc;
      default: value = '0;
    endcase

  always_ff @(posedge clk) begin
    pending <= {pending[0], s_axil_arvalid & s_axil_arready};
    if (s_axil_arvalid & s_axil_arready) addr <= s_axil_araddr;
    if (s_axil_rready) s_axil_rvalid <= 1'b0;
    if (pending[1]) begin
      s_axil_rvalid <= 1'b1;
      s_axil_rdata  <= addr[7:6] == 2'b10 ? layer_cycles : value_q;
    end
    if (rst) begin
      pending       <= '0;
      s_axil_rvalid <= 1'b0;
    end
  end
  assign s_axil_rresp = OKAY;

  wire unused = &{1'b0, s_axil_awprot, s_axil_arprot};
endmodule
`default_nettype wire
