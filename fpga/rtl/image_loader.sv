// Fills one of two input buffers a batch: per image a label word, then input_words words, one lane after the other.
`default_nettype none
module image_loader #(
    parameter int LANES = 16,
    parameter int WORD = 32
) (
    input  wire  logic                                          clk,
    input  wire  logic                                          rst,
    input  wire  logic                                          start,
    input  wire  logic [31:0]                                   image_count,
    input  wire  logic [overlay_pkg::ACT_BITS-1:0]              input_words,
    input  wire  logic [overlay_pkg::CLASS_BITS-1:0]            classes_left,
    // AXI4-Stream
    input  wire  logic [31:0]                                   s_axis_tdata,
    input  wire  logic                                          s_axis_tvalid,
    input  wire  logic                                          s_axis_tlast,
    output       logic                                          s_axis_tready,
    // activation memory; may_store: the array may write when our write would land
    input  wire  logic                                          may_store,
    output       logic [LANES-1:0]                              load,
    output       logic [overlay_pkg::ACT_BITS-1:0]              load_addr,
    output       logic [WORD-1:0]                               load_data,
    // buffers
    output       logic [1:0]                                    full,
    output       logic [1:0]                                    is_final,  // of the run
    output       logic [1:0][$clog2(LANES+1)-1:0]               lanes,
    output       logic [1:0][LANES-1:0][overlay_pkg::CLASS_BITS-1:0] labels,
    input  wire  logic [1:0]                                    free,
    output       overlay_pkg::error_t                           error
);
  localparam int LANE_BITS = LANES > 1 ? $clog2(LANES) : 1;
  localparam int LANE_COUNT_BITS = $clog2(LANES + 1);

  logic active, in_label, bank;
  logic [31:0] images_left;  // after this one
  logic [LANE_BITS-1:0] lane;
  logic [overlay_pkg::ACT_BITS-1:0] words_left, pointer;

  assign s_axis_tready = active & ~full[bank] & ~may_store;
  wire take = s_axis_tvalid & s_axis_tready;
  logic last_image, last_lane;  // one cycle late, which the label word leaves time for
  logic words_end, one_word;
  wire image_end = take & ~in_label & words_end;
  wire run_end = image_end & last_image;
  wire batch_end = image_end & (last_lane | last_image);

  // What was taken, judged and distributed a cycle later.
  logic label_q, early_q, missing_q;
  logic [LANES-1:0] label_lane;
  logic label_bank;
  logic [31:0] data_q;
  wire label_ok = data_q[31:overlay_pkg::CLASS_BITS] == '0 && data_q[overlay_pkg::CLASS_BITS-1:0] <= classes_left;
  always_ff @(posedge clk) begin
    last_image <= images_left == '0;
    one_word   <= input_words == 1;
    last_lane  <= lane == LANE_BITS'(LANES - 1);
    label_q    <= take & in_label;
    early_q    <= take & s_axis_tlast & ~run_end;
    missing_q  <= run_end & ~s_axis_tlast;
    data_q     <= s_axis_tdata;
    label_bank <= bank;
    for (int i = 0; i < LANES; i++) label_lane[i] <= lane == LANE_BITS'(i);

    for (int i = 0; i < 2; i++)
      for (int j = 0; j < LANES; j++)
        if (label_q && label_bank == 1'(i) && label_lane[j]) labels[i][j] <= data_q[overlay_pkg::CLASS_BITS-1:0];
    error <= rst ? overlay_pkg::ERR_NONE
        : early_q ? overlay_pkg::ERR_TLAST_EARLY
        : missing_q ? overlay_pkg::ERR_TLAST_MISSING
        : label_q & ~label_ok ? overlay_pkg::ERR_LABEL : overlay_pkg::ERR_NONE;
  end

  always_ff @(posedge clk) begin
    load      <= '0;
    load_addr <= pointer;
    load_data <= s_axis_tdata[WORD-1:0];

    if (take) begin
      if (in_label) begin
        words_left <= input_words - 1'b1;
        words_end  <= one_word;
        pointer    <= bank ? input_words : '0;
        in_label   <= 1'b0;
      end else begin
        load[lane] <= 1'b1;
        pointer    <= pointer + 1'b1;
        words_left <= words_left - 1'b1;
        words_end  <= words_left == 1;
      end
      if (image_end) begin
        in_label    <= 1'b1;
        images_left <= images_left - 1'b1;
        lane        <= batch_end ? '0 : lane + 1'b1;
      end
      if (batch_end) begin
        full[bank]     <= 1'b1;
        is_final[bank] <= run_end;
        lanes[bank]    <= LANE_COUNT_BITS'(lane) + 1'b1;
        bank           <= ~bank;
      end
      if (run_end) active <= 1'b0;
    end
    for (int i = 0; i < 2; i++) if (free[i]) full[i] <= 1'b0;

    if (start) begin
      active      <= 1'b1;
      in_label    <= 1'b1;
      bank        <= 1'b0;
      lane        <= '0;
      images_left <= image_count - 1'b1;
      full        <= '0;
    end
    if (rst) begin
      active <= 1'b0;
      full   <= '0;
    end
  end
endmodule
`default_nettype wire
