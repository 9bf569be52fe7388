// Keeps the results of two batches and streams them, image after image: the predicted class, then the logits, each
// if enabled.  The last word of a run carries TLAST.
`default_nettype none
module result_stream #(
    parameter int LANES = 16,
    parameter int CLASSES = 256
) (
    input  wire  logic                                           clk,
    input  wire  logic                                           rst,
    input  wire  logic                                           send_predictions,
    input  wire  logic                                           send_logits,
    input  wire  logic [overlay_pkg::CLASS_BITS-1:0]             classes_left,
    // from the class unit
    input  wire  logic                                           logit_write,
    input  wire  logic [overlay_pkg::CLASS_BITS-1:0]             logit_class,
    input  wire  logic [LANES-1:0][overlay_pkg::LOGIT_BITS-1:0]  logits,
    input  wire  logic                                           batch_done,
    input  wire  logic [LANES-1:0][overlay_pkg::CLASS_BITS-1:0]  predictions,
    input  wire  logic [$clog2(LANES+1)-1:0]                     batch_lanes,
    input  wire  logic                                           batch_final,
    output       logic                                           room,  // for one more batch
    output       logic                                           busy,
    // AXI4-Stream
    output       logic [31:0]                                    m_axis_tdata,
    output       logic                                           m_axis_tvalid,
    output       logic                                           m_axis_tlast,
    input  wire  logic                                           m_axis_tready
);
  localparam int LANE_BITS = LANES > 1 ? $clog2(LANES) : 1;
  localparam int BITS = $clog2(CLASSES) + 1;

  (* ram_style = "block" *) logic [LANES*overlay_pkg::LOGIT_BITS-1:0] mem[2*CLASSES];
  logic [LANES-1:0][overlay_pkg::CLASS_BITS-1:0] predictions_q[2];
  logic [LANE_BITS-1:0] last_lane[2];
  logic [1:0] full, final_q;
  logic fill_bank, drain_bank;

  assign room = ~full[fill_bank];

  wire release_bank;
  always_ff @(posedge clk) begin
    if (logit_write) mem[{fill_bank, logit_class[BITS-2:0]}] <= logits;
    if (batch_done) begin
      predictions_q[fill_bank] <= predictions;
      last_lane[fill_bank]     <= LANE_BITS'(batch_lanes - 1'b1);
      final_q[fill_bank]       <= batch_final;
      full[fill_bank]          <= send_predictions | send_logits;
      if (send_predictions | send_logits) fill_bank <= ~fill_bank;
    end
    if (release_bank) begin
      full[drain_bank] <= 1'b0;
      drain_bank       <= ~drain_bank;
    end
    if (rst) begin
      full       <= '0;
      fill_bank  <= 1'b0;
      drain_bank <= 1'b0;
    end
  end

  // ---- address: which word comes next (stage A), memory (B), lane selection (C)
  wire advance = ~m_axis_tvalid | m_axis_tready;
  logic [LANE_BITS-1:0] lane;
  logic [overlay_pkg::CLASS_BITS-1:0] class_index;
  logic in_logits;  // of this image; otherwise its prediction is next
  wire take = full[drain_bank] & advance;
  wire prediction_now = send_predictions & ~in_logits;
  // Set with the index, at least two classes: a comparison of its own would lengthen the path to release_bank.
  logic class_end;
  logic [overlay_pkg::CLASS_BITS-1:0] class_before_last;
  always_ff @(posedge clk) class_before_last <= classes_left - 1'b1;
  wire image_end = prediction_now ? ~send_logits : class_end;
  wire lane_end = lane == last_lane[drain_bank];
  assign release_bank = take & image_end & lane_end;

  always_ff @(posedge clk) begin
    if (take) begin
      in_logits <= prediction_now & send_logits ? 1'b1 : ~image_end & in_logits;
      if (~prediction_now) begin
        class_index <= class_end ? '0 : class_index + 1'b1;
        class_end   <= ~class_end & class_index == class_before_last;
      end
      if (image_end) lane <= lane_end ? '0 : lane + 1'b1;
    end
    if (rst) begin
      in_logits   <= 1'b0;
      class_index <= '0;
      class_end   <= 1'b0;
      lane        <= '0;
    end
  end

  logic valid_b, prediction_b, last_b;
  logic [LANE_BITS-1:0] lane_b;
  logic [overlay_pkg::CLASS_BITS-1:0] class_b;
  logic [LANES-1:0][overlay_pkg::LOGIT_BITS-1:0] row_b;
  always_ff @(posedge clk) begin
    if (advance) begin
      valid_b      <= take;
      prediction_b <= prediction_now;
      last_b       <= release_bank & final_q[drain_bank];
      lane_b       <= lane;
      class_b      <= predictions_q[drain_bank][lane];
      row_b        <= mem[{drain_bank, class_index[BITS-2:0]}];

      m_axis_tvalid <= valid_b;
      m_axis_tlast  <= last_b;
      m_axis_tdata  <= prediction_b ? 32'(class_b) : 32'($signed(row_b[lane_b]));
    end
    if (rst) begin
      valid_b       <= 1'b0;
      m_axis_tvalid <= 1'b0;
    end
  end

  assign busy = |full | valid_b | m_axis_tvalid;
endmodule
`default_nettype wire
