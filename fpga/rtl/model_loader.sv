// Parses a model packet: header, descriptors (each decoded before the next is taken), weights, thresholds, biases,
// CRC.  The overlay holds a valid model only after the last word's CRC has matched.
`default_nettype none
module model_loader #(
    parameter int FILTERS = 16,
    parameter int WORD = 32,
    parameter int WEIGHT_DEPTH = 3072,
    parameter int ACT_DEPTH = 4096,
    parameter int GROUP_DEPTH = 256,
    parameter int LAYERS = 16,
    parameter int CLASSES = 256
) (
    input  wire  logic                                clk,
    input  wire  logic                                rst,
    input  wire  logic                                start,
    // AXI4-Stream
    input  wire  logic [31:0]                         s_axis_tdata,
    input  wire  logic                                s_axis_tvalid,
    input  wire  logic                                s_axis_tlast,
    output       logic                                s_axis_tready,
    // memories
    output       logic [FILTERS-1:0]                  weight_write,
    output       logic [overlay_pkg::WEIGHT_BITS-1:0] weight_addr,
    output       logic [FILTERS-1:0]                  threshold_write,
    output       logic [overlay_pkg::GROUP_BITS-1:0]  threshold_addr,
    output       logic                                bias_write,
    output       logic [overlay_pkg::CLASS_BITS-1:0]  bias_addr,
    output       logic [31:0]                         write_data,
    output       logic                                layer_write,
    output       logic [overlay_pkg::LAYER_BITS-1:0]  layer_index,
    output       overlay_pkg::layer_t                 layer,
    // the loaded model
    output       logic [overlay_pkg::CLASS_BITS-1:0]  classes_left,
    output       logic [overlay_pkg::ACT_BITS-1:0]    input_words,
    output       logic [31:0]                         model_crc,
    output       logic                                done,
    output       overlay_pkg::error_t                 error
);
  typedef enum logic [3:0] {
    IDLE, MAGIC, SHAPE, SIZES, DESCRIPTOR, DECODE, WEIGHTS, THRESHOLDS, BIASES, CHECK, JUDGE, VERDICT
  } state_t;
  state_t state;

  logic [6:0][31:0] descriptor;
  logic [15:0] weight_words, threshold_groups, index;
  logic [4:0] layers_left;
  logic [2:0] word_index;
  logic [$clog2(FILTERS)-1:0] bank;
  logic [31:0] crc, crc_next, desc_crc, desc_crc_next;
  logic decode_start, desc_crc_ok, decode_done;
  logic bad_magic, bad_header, early, terminated, crc_ok;
  overlay_pkg::error_t decode_error;

  crc32_word u_crc (.crc, .word(s_axis_tdata), .next(crc_next));
  crc32_word u_desc_crc (.crc(desc_crc), .word(s_axis_tdata), .next(desc_crc_next));

  descriptor_decoder #(.FILTERS(FILTERS), .WORD(WORD), .ACT_DEPTH(ACT_DEPTH)) u_decoder (
      .clk, .rst(rst | start), .start(decode_start), .is_first(layer_index == '0), .is_last(layers_left == '0),
      .descriptor, .crc_ok(desc_crc_ok), .weight_words, .threshold_groups, .classes_left, .layer, .input_words,
      .done(decode_done), .error(decode_error)
  );
  assign layer_write = decode_done;

  assign s_axis_tready = state != IDLE & state != DECODE & state != JUDGE & state != VERDICT;
  wire take = s_axis_tvalid & s_axis_tready;
  wire bank_end = &bank;

  // A cycle late, which the other banks of an address leave time for.
  logic weights_end, thresholds_end, no_thresholds;
  always_ff @(posedge clk) begin
    weights_end    <= index == weight_words - 1'b1;
    thresholds_end <= index == threshold_groups - 1'b1;
    no_thresholds  <= threshold_groups == '0;
  end

  // Biases come one a cycle: compared one ahead (there are two classes at least).
  logic biases_end;
  logic [overlay_pkg::CLASS_BITS-1:0] class_before_last;
  always_ff @(posedge clk) begin
    class_before_last <= classes_left - 1'b1;
    if (state != BIASES) biases_end <= 1'b0;
    else if (take) biases_end <= index == 16'(class_before_last);
  end

  wire [7:0] layers = s_axis_tdata[7:0];
  wire [15:0] classes = s_axis_tdata[31:16];
  wire shape_ok = layers != '0 && layers <= 8'(LAYERS) && s_axis_tdata[15:8] == '0
      && classes >= 16'd2 && classes <= 16'(CLASSES);
  wire sizes_ok = s_axis_tdata[15:0] != '0 && s_axis_tdata[15:0] <= 16'(WEIGHT_DEPTH)
      && s_axis_tdata[31:16] <= 16'(GROUP_DEPTH);

  always_ff @(posedge clk) begin
    done            <= 1'b0;
    error           <= overlay_pkg::ERR_NONE;
    decode_start    <= 1'b0;
    weight_write    <= '0;
    threshold_write <= '0;
    bias_write      <= 1'b0;
    weight_addr     <= overlay_pkg::WEIGHT_BITS'(index);
    threshold_addr  <= overlay_pkg::GROUP_BITS'(index);
    bias_addr       <= overlay_pkg::CLASS_BITS'(index);
    write_data      <= s_axis_tdata;

    // Verdicts on a word come a cycle after it.
    bad_magic  <= take & state == MAGIC & s_axis_tdata != overlay_pkg::MODEL_MAGIC;
    bad_header <= take & ((state == SHAPE & ~shape_ok) | (state == SIZES & ~sizes_ok));
    early      <= take & s_axis_tlast & state != CHECK;
    if (take) terminated <= s_axis_tlast;

    if (take) begin
      if (state != CHECK) crc <= crc_next;
      case (state)
        MAGIC: state <= SHAPE;
        SHAPE: begin
          layers_left  <= 5'(layers - 1'b1);
          classes_left <= overlay_pkg::CLASS_BITS'(classes - 1'b1);
          state        <= SIZES;
        end
        SIZES: begin
          weight_words     <= s_axis_tdata[15:0];
          threshold_groups <= s_axis_tdata[31:16];
          state            <= DESCRIPTOR;
        end
        DESCRIPTOR: begin
          for (int i = 0; i < 7; i++) if (word_index == 3'(i)) descriptor[i] <= s_axis_tdata;
          desc_crc               <= &word_index ? '1 : desc_crc_next;
          desc_crc_ok            <= s_axis_tdata == ~desc_crc;
          word_index             <= word_index + 1'b1;
          if (&word_index) begin
            decode_start <= 1'b1;
            state        <= DECODE;
          end
        end
        WEIGHTS: begin
          weight_write[bank] <= 1'b1;
          bank               <= bank + 1'b1;
          if (bank_end) index <= index + 1'b1;
          if (bank_end & weights_end) begin
            index <= '0;
            state <= no_thresholds ? BIASES : THRESHOLDS;
          end
        end
        THRESHOLDS: begin
          threshold_write[bank] <= 1'b1;
          bank                  <= bank + 1'b1;
          if (bank_end) index <= index + 1'b1;
          if (bank_end & thresholds_end) begin
            index <= '0;
            state <= BIASES;
          end
        end
        BIASES: begin
          bias_write <= 1'b1;
          index      <= index + 1'b1;
          if (biases_end) state <= CHECK;
        end
        default: begin  // CHECK
          model_crc <= s_axis_tdata;
          state     <= JUDGE;
        end
      endcase
    end

    crc_ok <= model_crc == ~crc;
    if (state == JUDGE) state <= VERDICT;
    if (state == VERDICT) begin
      state <= IDLE;
      if (~terminated) fail(overlay_pkg::ERR_TLAST_MISSING);
      else if (~crc_ok) fail(overlay_pkg::ERR_CRC);
      else done <= 1'b1;
    end
    if (state == DECODE) begin
      if (decode_error != overlay_pkg::ERR_NONE) fail(decode_error);
      if (decode_done) begin
        layers_left <= layers_left - 1'b1;
        if (layers_left == '0) state <= WEIGHTS;
        else begin
          layer_index <= layer_index + 1'b1;
          state       <= DESCRIPTOR;
        end
      end
    end

    if (bad_magic) fail(overlay_pkg::ERR_MAGIC);
    else if (bad_header) fail(overlay_pkg::ERR_HEADER);
    else if (early) fail(overlay_pkg::ERR_TLAST_EARLY);

    if (start) begin
      state       <= MAGIC;
      crc         <= '1;
      desc_crc    <= '1;
      word_index  <= '0;
      layer_index <= '0;
      bank        <= '0;
      index       <= '0;
    end
    if (rst) begin
      state <= IDLE;
      done  <= 1'b0;
      error <= overlay_pkg::ERR_NONE;
    end
  end

  task automatic fail(input overlay_pkg::error_t code);
    error <= code;
    state <= IDLE;
  endtask
endmodule
`default_nettype wire
