// One bank of block RAM a filter; every bank reads the same address, two cycles to the output register.
`default_nettype none
module weight_memory #(
    parameter int FILTERS = 16,
    parameter int WORD = 32,
    parameter int DEPTH = 3072
) (
    input  wire  logic                                clk,
    input  wire  logic [FILTERS-1:0]                  write,
    input  wire  logic [overlay_pkg::WEIGHT_BITS-1:0] write_addr,
    input  wire  logic [WORD-1:0]                     write_data,
    input  wire  logic [overlay_pkg::WEIGHT_BITS-1:0] read_addr,
    output       logic [FILTERS-1:0][WORD-1:0]        data
);
  localparam int BITS = $clog2(DEPTH);
  for (genvar bank = 0; bank < FILTERS; bank++) begin : g_bank
    (* ram_style = "block" *) logic [WORD-1:0] mem[DEPTH];
    logic [WORD-1:0] q;
    always_ff @(posedge clk) begin
      if (write[bank]) mem[write_addr[BITS-1:0]] <= write_data;
      q <= mem[read_addr[BITS-1:0]];
    end
    always_ff @(posedge clk) data[bank] <= q;
  end
endmodule
`default_nettype wire
