// LANES images times FILTERS neurons in lock step: all share one step, lanes share weights, filters share activations.
`default_nettype none
module pe_array #(
    parameter int LANES = 16,
    parameter int FILTERS = 16,
    parameter int WORD = 32
) (
    input  wire  logic                                                       clk,
    input  wire  logic [LANES-1:0][WORD-1:0]                                 act,
    input  wire  logic [FILTERS-1:0][WORD-1:0]                               weight,
    input  wire  logic                                                       enable,
    input  wire  logic                                                       first,
    input  wire  logic [FILTERS-1:0][overlay_pkg::ACC_BITS-1:0]              start,
    output       logic [LANES-1:0][FILTERS-1:0][overlay_pkg::ACC_BITS-1:0]   acc,
    output       logic [LANES-1:0][FILTERS-1:0]                              bits
);
  logic [LANES-1:0][WORD-1:0] act_q;
  logic [FILTERS-1:0][WORD-1:0] weight_q;
  always_ff @(posedge clk) begin
    act_q    <= act;
    weight_q <= weight;
  end

  for (genvar lane = 0; lane < LANES; lane++) begin : g_lane
    for (genvar filter = 0; filter < FILTERS; filter++) begin : g_filter
      logic [overlay_pkg::ACC_BITS-1:0] sum;
      processing_element #(.WORD(WORD)) u_pe (
          .clk, .act(act_q[lane]), .weight(weight_q[filter]), .enable, .first, .start(start[filter]), .acc(sum)
      );
      assign acc[lane][filter] = sum;
      assign bits[lane][filter] = ~sum[overlay_pkg::ACC_BITS-1];
    end
  end
endmodule
`default_nettype wire
