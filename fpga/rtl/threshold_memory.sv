// Start values (minus the threshold) of every group's filters, in distributed RAM; one cycle to the output register.
`default_nettype none
module threshold_memory #(
    parameter int FILTERS = 16,
    parameter int DEPTH = 256
) (
    input  wire  logic                                           clk,
    input  wire  logic [FILTERS-1:0]                             write,
    input  wire  logic [overlay_pkg::GROUP_BITS-1:0]             write_addr,
    input  wire  logic [overlay_pkg::ACC_BITS-1:0]               write_data,
    input  wire  logic [overlay_pkg::GROUP_BITS-1:0]             read_addr,
    output       logic [FILTERS-1:0][overlay_pkg::ACC_BITS-1:0]  data
);
  localparam int BITS = $clog2(DEPTH);
  for (genvar filter = 0; filter < FILTERS; filter++) begin : g_filter
    (* ram_style = "distributed" *) logic [overlay_pkg::ACC_BITS-1:0] mem[DEPTH];
    always_ff @(posedge clk) begin
      if (write[filter]) mem[write_addr[BITS-1:0]] <= write_data;
      data[filter] <= mem[read_addr[BITS-1:0]];
    end
  end
endmodule
`default_nettype wire
