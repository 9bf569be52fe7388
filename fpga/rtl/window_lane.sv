// The window packer of one lane; see window_packer.
`default_nettype none
module window_lane #(
    parameter int WORD = 32
) (
    input  wire  logic               clk,
    input  wire  overlay_pkg::step_t step,  // aligned with data
    input  wire  logic [WORD-1:0]    data,
    output       logic [WORD-1:0]    act
);
  localparam int BAND = 4;
  logic [BAND-1:0][WORD-1:0] band, shadow;

  always_ff @(posedge clk) begin
    for (int row = 0; row < BAND; row++) begin
      if (step.prefetch && step.prefetch_row == 2'(row)) shadow[row] <= data;
      if (step.load) band[row] <= shadow[row];
      else if (step.shift) band[row] <= step.pool ? band[row] >> 2 : band[row] >> 1;
    end
  end

  // quad = {dy, dx}: which position of a pooled quad; 0 without pooling.
  logic [8:0] window;
  always_comb
    for (int ky = 0; ky < 3; ky++)
      for (int kx = 0; kx < 3; kx++)
        case (step.quad)
          2'd0: window[3*ky+kx] = band[ky][kx];
          2'd1: window[3*ky+kx] = band[ky][kx+1];
          2'd2: window[3*ky+kx] = band[ky+1][kx];
          default: window[3*ky+kx] = band[ky+1][kx+1];
        endcase
  assign act = step.window ? WORD'(window) : data;

  wire unused = &{1'b0, step.valid, step.first, step.last, step.quad_first, step.quad_last, step.group_last,
                  step.logits, step.act_addr, step.weight_addr, step.group};
endmodule
`default_nettype wire
