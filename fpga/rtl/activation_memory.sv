// One block RAM memory a lane (image).  Two writers: the image loader (one lane a cycle) and the array (all lanes);
// they never write in the same cycle, the loader waits.  Two cycles from address to output register.
`default_nettype none
module activation_memory #(
    parameter int LANES = 16,
    parameter int WORD = 32,
    parameter int DEPTH = 4096
) (
    input  wire  logic                             clk,
    input  wire  logic [LANES-1:0]                 load,
    input  wire  logic [overlay_pkg::ACT_BITS-1:0] load_addr,
    input  wire  logic [WORD-1:0]                  load_data,
    input  wire  logic                             store,
    input  wire  logic [overlay_pkg::ACT_BITS-1:0] store_addr,
    input  wire  logic [LANES-1:0][WORD-1:0]       store_data,
    input  wire  logic [overlay_pkg::ACT_BITS-1:0] read_addr,
    output       logic [LANES-1:0][WORD-1:0]       data
);
  localparam int BITS = $clog2(DEPTH);
  wire [overlay_pkg::ACT_BITS-1:0] addr = store ? store_addr : load_addr;
  for (genvar lane = 0; lane < LANES; lane++) begin : g_lane
    (* ram_style = "block" *) logic [WORD-1:0] mem[DEPTH];
    logic [WORD-1:0] q;
    always_ff @(posedge clk) begin
      if (store || load[lane]) mem[addr[BITS-1:0]] <= store ? store_data[lane] : load_data;
      q <= mem[read_addr[BITS-1:0]];
    end
    always_ff @(posedge clk) data[lane] <= q;
  end
endmodule
`default_nettype wire
