// The overlay's state: idle, loading or running, what went wrong, the count of right labels, cycles and watchdog.
// Any error ends the operation, clears the count and resets everything but the registers.
`default_nettype none
module run_control #(
    parameter int LANES = 16
) (
    input  wire  logic                               clk,
    input  wire  logic                               rst,
    // registers
    input  wire  logic                               load_request,
    input  wire  logic                               run_request,
    input  wire  logic                               reset_request,
    input  wire  logic [31:0]                        image_count,
    input  wire  logic [31:0]                        watchdog_limit,  // cycles without progress; 0 never
    input  wire  logic                               irq_enable,
    output       logic [31:0]                        status,
    output       logic [31:0]                        correct,
    output       logic [31:0]                        images_done,
    output       logic [31:0]                        cycles,
    output       logic                               irq,
    // datapath
    output       logic                               datapath_reset,
    output       logic                               loading,
    output       logic                               running,
    output       logic                               load_start,
    output       logic                               run_start,
    input  wire  logic                               load_done,
    input  wire  logic                               run_done,
    input  wire  overlay_pkg::error_t                load_error,
    input  wire  overlay_pkg::error_t                run_error,
    input  wire  logic [overlay_pkg::LAYER_BITS-1:0] load_layer,
    input  wire  logic                               batch_done,
    input  wire  logic [$clog2(LANES+1)-1:0]         batch_lanes,
    input  wire  logic [$clog2(LANES+1)-1:0]         batch_correct,
    input  wire  logic                               progress,
    input  wire  logic                               output_stuck
);
  logic done, failed, model_valid;
  overlay_pkg::error_t code;
  logic [overlay_pkg::LAYER_BITS-1:0] layer;
  logic [31:0] patience, sum;
  wire busy = loading | running;
  wire request = load_request | run_request;

  logic expired;
  logic reset_q;  // the cycle after an error

  logic failing, has_images, watching;

  // First cause wins.
  overlay_pkg::error_t cause;
  always_comb begin
    cause = overlay_pkg::ERR_NONE;
    if (failing | reset_q) cause = request ? overlay_pkg::ERR_START_BUSY : overlay_pkg::ERR_NONE;
    else if (busy & request) cause = overlay_pkg::ERR_START_BUSY;
    else if (loading & load_error != overlay_pkg::ERR_NONE) cause = load_error;
    else if (running & run_error != overlay_pkg::ERR_NONE) cause = run_error;
    else if (busy & expired)
      cause = output_stuck ? overlay_pkg::ERR_WATCHDOG_OUTPUT : overlay_pkg::ERR_WATCHDOG_INPUT;
    else if (run_request & ~model_valid) cause = overlay_pkg::ERR_NO_MODEL;
    else if (run_request & ~has_images) cause = overlay_pkg::ERR_COUNT;
  end

  // Acted on a cycle later: the way here is long enough.
  overlay_pkg::error_t cause_q;
  always_ff @(posedge clk) cause_q <= rst | reset_request ? overlay_pkg::ERR_NONE : cause;
  assign failing = cause_q != overlay_pkg::ERR_NONE;

  logic progress_q;
  always_ff @(posedge clk) begin
    progress_q <= progress | ~busy;
    patience   <= progress_q ? watchdog_limit : patience - 1'b1;
    expired    <= patience == '0 & ~progress_q & watching;
    watching   <= watchdog_limit != '0;
    has_images <= image_count != '0;
  end

  wire ready = ~busy & ~failing & ~reset_q;
  assign load_start = load_request & ready;
  assign run_start = run_request & ready & model_valid & has_images;
  assign datapath_reset = rst | reset_request | reset_q;

  always_ff @(posedge clk) begin
    reset_q <= 1'b0;
    if (busy) cycles <= cycles + 1'b1;
    if (running & batch_done) begin
      sum         <= sum + 32'(batch_correct);
      images_done <= images_done + 32'(batch_lanes);
    end
    if (load_start) begin
      loading     <= 1'b1;
      model_valid <= 1'b0;
    end
    if (run_start) running <= 1'b1;
    if (load_start | run_start) begin
      done        <= 1'b0;
      failed      <= 1'b0;
      code        <= overlay_pkg::ERR_NONE;
      layer       <= '0;
      sum         <= '0;
      images_done <= '0;
      cycles      <= '0;
    end
    if (loading & load_done) begin
      loading     <= 1'b0;
      done        <= 1'b1;
      model_valid <= 1'b1;
    end
    if (running & run_done) begin
      running <= 1'b0;
      done    <= 1'b1;
    end
    if (failing) begin
      loading <= 1'b0;
      running <= 1'b0;
      done    <= 1'b0;
      failed  <= 1'b1;
      code    <= cause_q;
      layer   <= cause_q[4] ? load_layer : '0;  // the descriptor errors have bit 4
      reset_q <= 1'b1;
    end
    if (reset_request | rst) begin
      loading     <= 1'b0;
      running     <= 1'b0;
      done        <= 1'b0;
      failed      <= 1'b0;
      code        <= overlay_pkg::ERR_NONE;
      layer       <= '0;
      model_valid <= 1'b0;
      sum         <= '0;
      images_done <= '0;
      cycles      <= '0;
    end
  end

  // Nothing partial is ever shown: the count exists only once the run is done.
  assign correct = done ? sum : '0;
  assign status = {8'd0, 4'd0, layer, code, 3'd0, irq, model_valid, failed, done, busy};
  assign irq = irq_enable & (done | failed);
endmodule
`default_nettype wire
