// One neuron of one image: accumulates match counts from a start value (minus the threshold), so that the sign bit
// of the sum is the inverted activation and no comparator is needed.
`default_nettype none
module processing_element #(
    parameter int WORD = 32
) (
    input  wire  logic                              clk,
    input  wire  logic [WORD-1:0]                   act,
    input  wire  logic [WORD-1:0]                   weight,
    input  wire  logic                              enable,  // aligned with the count, three cycles after the words
    input  wire  logic                              first,
    input  wire  logic [overlay_pkg::ACC_BITS-1:0]  start,
    output       logic [overlay_pkg::ACC_BITS-1:0]  acc
);
  localparam int COUNT = $clog2(WORD + 1);

  logic [COUNT-1:0] count;
  xnor_popcount #(.WORD(WORD)) u_count (.clk, .act, .weight, .count);

  always_ff @(posedge clk)
    if (enable) acc <= (first ? start : acc) + overlay_pkg::ACC_BITS'(count);
endmodule
`default_nettype wire
