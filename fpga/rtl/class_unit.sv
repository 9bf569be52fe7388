// Reads the last layer's accumulators one class a cycle for all lanes: logit = 2P - K + bias, running argmax (the
// lowest class wins a tie), and at the end the number of lanes whose class equals their label.
`default_nettype none
module class_unit #(
    parameter int LANES = 16,
    parameter int FILTERS = 16,
    parameter int CLASSES = 256
) (
    input  wire  logic                                                     clk,
    input  wire  logic                                                     rst,
    // biases
    input  wire  logic                                                     bias_write,
    input  wire  logic [overlay_pkg::CLASS_BITS-1:0]                       bias_addr,
    input  wire  logic [overlay_pkg::LOGIT_BITS-1:0]                       bias_data,
    // this batch
    input  wire  logic                                                     batch_start,  // latches the next three
    input  wire  logic [LANES-1:0][overlay_pkg::CLASS_BITS-1:0]            labels,
    input  wire  logic [$clog2(LANES+1)-1:0]                               lanes,  // in use
    input  wire  logic [overlay_pkg::CLASS_BITS-1:0]                       classes_left,  // classes - 1
    input  wire  logic [overlay_pkg::FAN_IN_BITS-1:0]                      fan_in,
    // accumulators of one group
    input  wire  logic                                                     group_start,
    input  wire  logic [LANES-1:0][FILTERS-1:0][overlay_pkg::ACC_BITS-1:0] acc,
    output       logic                                                     group_read,
    // results
    output       logic                                                     logit_write,
    output       logic [overlay_pkg::CLASS_BITS-1:0]                       logit_class,
    output       logic [LANES-1:0][overlay_pkg::LOGIT_BITS-1:0]            logits,
    output       logic [LANES-1:0][overlay_pkg::CLASS_BITS-1:0]            predictions,
    output       logic                                                     batch_done,
    output       logic [$clog2(LANES+1)-1:0]                               batch_lanes,
    output       logic [$clog2(LANES+1)-1:0]                               batch_correct,
    output       logic                                                     busy
);
  localparam int FILTER_BITS = $clog2(FILTERS);
  localparam int BIAS_BITS = $clog2(CLASSES);
  localparam int LANE_COUNT_BITS = $clog2(LANES + 1);

  (* ram_style = "distributed" *) logic [overlay_pkg::LOGIT_BITS-1:0] biases[CLASSES];
  always_ff @(posedge clk) if (bias_write) biases[bias_addr[BIAS_BITS-1:0]] <= bias_data;

  logic [LANES-1:0][overlay_pkg::CLASS_BITS-1:0] labels_q;
  always_ff @(posedge clk)
    if (batch_start) begin
      labels_q    <= labels;
      batch_lanes <= lanes;
    end

  // ---- read: one class a cycle out of the accumulators
  logic reading;
  logic [overlay_pkg::CLASS_BITS-1:0] class_index;
  wire class_end = class_index == classes_left;
  wire group_end = &class_index[FILTER_BITS-1:0] | class_end;
  assign group_read = reading & group_end;

  logic read_q, first_q, end_q;
  logic [overlay_pkg::CLASS_BITS-1:0] class_q;
  logic [LANES-1:0][overlay_pkg::ACC_BITS-1:0] selected, matches_q;
  for (genvar lane = 0; lane < LANES; lane++) begin : g_select
    // A slice first: yosys would shift the whole array for every lane.
    wire [FILTERS*overlay_pkg::ACC_BITS-1:0] sums = acc[lane];
    assign selected[lane] = sums[class_index[FILTER_BITS-1:0]*overlay_pkg::ACC_BITS+:overlay_pkg::ACC_BITS];
  end
  logic [overlay_pkg::LOGIT_BITS-1:0] bias_q;
  always_ff @(posedge clk) begin
    if (group_start) reading <= 1'b1;
    else if (group_read) reading <= 1'b0;
    if (reading) class_index <= class_end ? '0 : class_index + 1'b1;
    read_q  <= reading;
    first_q <= class_index == '0;
    end_q   <= class_end;
    class_q <= class_index;
    matches_q <= selected;
    bias_q <= biases[class_index[BIAS_BITS-1:0]];
    if (rst) begin
      reading     <= 1'b0;
      read_q      <= 1'b0;
      class_index <= '0;
    end
  end

  // ---- add: logit = 2P + (bias - K)
  logic add_q, add_first, add_end, logit_q, logit_first, logit_end;
  logic [overlay_pkg::CLASS_BITS-1:0] add_class;
  logic [LANES-1:0][overlay_pkg::ACC_BITS-1:0] add_matches;
  logic [overlay_pkg::LOGIT_BITS-1:0] offset;
  always_ff @(posedge clk) begin
    add_q       <= read_q & ~rst;
    add_first   <= first_q;
    add_end     <= end_q;
    add_class   <= class_q;
    add_matches <= matches_q;
    offset      <= bias_q - overlay_pkg::LOGIT_BITS'(fan_in);

    logit_q     <= add_q & ~rst;
    logit_first <= add_first;
    logit_end   <= add_end;
    logit_class <= add_class;
    for (int lane = 0; lane < LANES; lane++)
      logits[lane] <= overlay_pkg::LOGIT_BITS'({add_matches[lane], 1'b0}) + offset;
  end
  assign logit_write = logit_q;

  // ---- compare: strictly greater, so that the lowest class wins a tie
  logic [LANES-1:0][overlay_pkg::LOGIT_BITS-1:0] best;
  logic compared;
  always_ff @(posedge clk) begin
    if (logit_q)
      for (int lane = 0; lane < LANES; lane++)
        if (logit_first || $signed(logits[lane]) > $signed(best[lane])) begin
          best[lane]        <= logits[lane];
          predictions[lane] <= logit_class;
        end
    compared <= logit_q & logit_end & ~rst;
  end

  // ---- count
  logic [LANES-1:0] right;
  logic [LANE_COUNT_BITS-1:0] total;
  logic counted;
  always_comb begin
    total = '0;
    for (int lane = 0; lane < LANES; lane++) total = total + LANE_COUNT_BITS'(right[lane]);
  end
  always_ff @(posedge clk) begin
    counted <= compared & ~rst;
    for (int lane = 0; lane < LANES; lane++)
      right[lane] <= LANE_COUNT_BITS'(lane) < batch_lanes && predictions[lane] == labels_q[lane];
    batch_done    <= counted & ~rst;
    batch_correct <= total;
  end

  assign busy = reading | read_q | add_q | logit_q | compared | counted | batch_done;
endmodule
`default_nettype wire
