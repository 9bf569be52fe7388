// Packs the nine taps of a 3x3 window on one-bit rows into one word, for the first layer of a one-plane image.
// A band is the image rows under one row of outputs (three, or four when pooling).  It shifts right as outputs move
// along it, while the next band is prefetched into a shadow, so a window costs one cycle.
`default_nettype none
module window_packer #(
    parameter int LANES = 16,
    parameter int WORD = 32
) (
    input  wire  logic                         clk,
    input  wire  overlay_pkg::step_t           step,  // aligned with data
    input  wire  logic [LANES-1:0][WORD-1:0]   data,
    output       logic [LANES-1:0][WORD-1:0]   act
);
  for (genvar lane = 0; lane < LANES; lane++) begin : g_lane
    window_lane #(.WORD(WORD)) u_lane (.clk, .step, .data(data[lane]), .act(act[lane]));
  end
endmodule
`default_nettype wire
