// Checks one layer descriptor completely and turns it into a layer record.  Products come from one shift-and-add
// multiplier: a model is loaded once, so a hundred cycles a layer are nothing, and no DSP is needed.
`default_nettype none
module descriptor_decoder #(
    parameter int FILTERS = 16,
    parameter int WORD = 32,
    parameter int ACT_DEPTH = 4096
) (
    input  wire  logic                                clk,
    input  wire  logic                                rst,
    input  wire  logic                                start,
    input  wire  logic                                is_first,
    input  wire  logic                                is_last,
    input  wire  logic [6:0][31:0]                    descriptor,  // stable until done or error
    input  wire  logic                                crc_ok,
    // from the model header
    input  wire  logic [15:0]                         weight_words,
    input  wire  logic [15:0]                         threshold_groups,
    input  wire  logic [overlay_pkg::CLASS_BITS-1:0]  classes_left,
    output       overlay_pkg::layer_t                 layer,
    output       logic [overlay_pkg::ACT_BITS-1:0]    input_words,  // of one image, from the first layer
    output       logic                                done,
    output       overlay_pkg::error_t                 error
);
  localparam int SLOTS = WORD / FILTERS;
  localparam int CB = overlay_pkg::COUNT_BITS;
  localparam logic [CB-1:0] DEPTH = CB'(ACT_DEPTH);

  // ---- fields
  wire [3:0] op = descriptor[0][3:0];
  wire pool = descriptor[0][4];
  wire last = descriptor[0][5];
  wire [8:0] width = descriptor[1][8:0];
  wire [8:0] height = descriptor[1][24:16];
  wire [15:0] in_words = descriptor[2][15:0];  // a pixel (conv), an image row (rows) or the whole input (dense)
  wire [15:0] groups = descriptor[2][31:16];
  wire [15:0] in_base = descriptor[3][15:0];
  wire [15:0] out_base = descriptor[3][31:16];
  wire [15:0] weight_base = descriptor[4][15:0];
  wire [15:0] threshold_base = descriptor[4][31:16];
  wire [31:0] fan_in = descriptor[5];
  wire reserved = |{descriptor[0][31:6], descriptor[1][31:25], descriptor[1][15:9], descriptor[6]};

  wire conv = op == overlay_pkg::OP_CONV;
  wire dense = op == overlay_pkg::OP_DENSE;
  wire rows = op == overlay_pkg::OP_CONV_ROWS;

  // ---- multiplier
  logic mul_busy;
  logic [CB-1:0] mul_b;
  logic [2*CB-1:0] mul_a, product;

  // ---- what this layer must accept: the output of the one before
  logic [8:0] prev_width, prev_height;
  logic [CB-1:0] prev_pixel_words, prev_words, prev_base;
  logic prev_dense;
  logic [CB:0] act_floor;  // the input buffers end here

  // ---- derived
  logic [CB-1:0] line_words, total_in, out_pixel_words, row_words, out_words;
  wire [8:0] valid_width = width - 9'd2;
  wire [8:0] valid_height = height - 9'd2;
  logic [8:0] out_width, out_height;  // long settled when they are used
  always_ff @(posedge clk) begin
    out_width  <= dense ? 9'd1 : pool ? valid_width >> 1 : valid_width;
    out_height <= dense ? 9'd1 : pool ? valid_height >> 1 : valid_height;
  end
  wire [8:0] side_min = dense ? 9'd1 : pool ? 9'd4 : 9'd3;
  wire [8:0] side_max = dense ? 9'd1 : 9'd256;
  wire [16:0] out_end = {1'b0, out_base} + 17'(out_words);
  wire [16:0] in_end = {1'b0, in_base} + 17'(total_in);
  wire [16:0] weight_end = {1'b0, weight_base} + 17'(product);
  wire [16:0] threshold_end = {1'b0, threshold_base} + {1'b0, groups};
  localparam int CLASS_SHIFT = $clog2(FILTERS);

  typedef enum logic [3:0] {
    IDLE, FORMAT, SIZE, LINE, INPUT, CHAIN, OUT_PIXEL, OUT_LINE, OUT_ALL, PLACE, WEIGHTS, CHECK_WEIGHTS, FINISH
  } state_t;
  state_t state;

  // Comparisons and verdict are registered; a state acts once they have seen its operands (age 3).
  logic bad_op, bad_size, bad_in_words, bad_groups, over_depth, over_total, bad_chain, over_half, bad_next, over_out;
  logic low_out, overlap, has_out, over_weights, over_weight_end, bad_thresholds, bad_fan_in;
  always_ff @(posedge clk) begin
    bad_op          <= reserved | ~(conv | dense | rows) | (pool & dense) | last != is_last | (last & ~dense)
                       | (rows & ~is_first) | (~dense & ~is_first & prev_dense);
    bad_size        <= width < side_min || width > side_max || height < side_min || height > side_max
                       || (rows && (width > 9'(WORD) || WORD < 9));
    bad_in_words    <= in_words == '0 || in_words > 16'(DEPTH) || (rows && in_words != 16'd1);
    bad_groups      <= groups == '0 || groups > 16'd256
                       || (last && groups != 16'(classes_left >> CLASS_SHIFT) + 16'd1);
    over_depth      <= product > (2 * CB)'(DEPTH);
    over_total      <= total_in > DEPTH;
    over_half       <= total_in > DEPTH >> 1 || in_base != '0;
    bad_chain       <= in_base != 16'(prev_base) || total_in != prev_words;
    bad_next        <= conv && (width != prev_width || height != prev_height || in_words != 16'(prev_pixel_words));
    over_out        <= out_end > 17'(DEPTH);
    low_out         <= out_base < 16'(act_floor);
    overlap         <= ~is_first && 17'(in_base) < out_end && 17'(out_base) < in_end;
    has_out         <= out_base != '0;
    over_weights    <= product > (2 * CB)'(weight_words);
    over_weight_end <= weight_end > {1'b0, weight_words};
    bad_thresholds  <= last ? threshold_base != '0 : threshold_end > {1'b0, threshold_groups};
    bad_fan_in      <= fan_in == '0 || fan_in > 32'(row_words) * 32'(WORD);
  end

  // First condition that fails names the error of a state.
  overlay_pkg::error_t verdict;
  always_comb begin
    verdict = overlay_pkg::ERR_NONE;
    case (state)
      FORMAT: verdict = ~crc_ok ? overlay_pkg::ERR_DESC_CRC : bad_op ? overlay_pkg::ERR_DESC_OP : overlay_pkg::ERR_NONE;
      SIZE:
      verdict = bad_size ? overlay_pkg::ERR_DESC_SIZE
          : bad_in_words ? overlay_pkg::ERR_DESC_INPUT
          : bad_groups ? overlay_pkg::ERR_DESC_GROUPS : overlay_pkg::ERR_NONE;
      LINE: if (over_depth & ~rows & ~dense) verdict = overlay_pkg::ERR_DESC_INPUT;
      CHAIN: if (over_total | (is_first ? over_half : bad_chain | bad_next)) verdict = overlay_pkg::ERR_DESC_INPUT;
      OUT_ALL: if (over_depth) verdict = overlay_pkg::ERR_DESC_ACTIVATIONS;
      PLACE:
      if (last ? has_out : over_depth | over_out | low_out | overlap) verdict = overlay_pkg::ERR_DESC_ACTIVATIONS;
      CHECK_WEIGHTS:
      verdict = over_weights | over_weight_end ? overlay_pkg::ERR_DESC_WEIGHTS
          : bad_thresholds ? overlay_pkg::ERR_DESC_THRESHOLDS
          : bad_fan_in ? overlay_pkg::ERR_DESC_FAN_IN : overlay_pkg::ERR_NONE;
      default: ;
    endcase
  end

  logic [1:0] age;
  overlay_pkg::error_t verdict_q;
  wire settled = &age;
  always_ff @(posedge clk) begin
    age       <= mul_busy | state == IDLE ? '0 : age + 1'b1;
    verdict_q <= verdict;
  end

  always_ff @(posedge clk) begin
    done  <= 1'b0;
    error <= overlay_pkg::ERR_NONE;

    if (mul_busy) begin
      product  <= mul_b[0] ? product + mul_a : product;
      mul_a    <= mul_a << 1;
      mul_b    <= mul_b >> 1;
      mul_busy <= |mul_b[CB-1:1];
    end else if (state == IDLE) begin
      if (start) state <= FORMAT;
    end else if (~settled) begin
      // the comparisons settle
    end else if (verdict_q != overlay_pkg::ERR_NONE) begin
      error <= verdict_q;
      state <= IDLE;
    end else
      case (state)
        FORMAT: state <= SIZE;
        SIZE: begin
          multiply(CB'(in_words), CB'(width));
          state <= LINE;
        end
        LINE: begin
          line_words <= rows ? CB'(1) : CB'(product);
          state      <= INPUT;
        end
        INPUT: begin
          multiply(line_words, CB'(height));
          state <= OUT_PIXEL;
        end
        OUT_PIXEL: begin
          // Saturate instead of truncating: the next state compares with the depth.
          total_in        <= dense ? CB'(in_words) : |product[2*CB-1:CB] ? '1 : CB'(product);
          row_words       <= rows ? CB'(1) : dense ? CB'(in_words) : CB'(in_words << 3) + CB'(in_words);
          out_pixel_words <= CB'((groups + 16'(SLOTS - 1)) / 16'(SLOTS));
          state           <= CHAIN;
        end
        CHAIN: begin
          if (is_first) act_floor <= {total_in, 1'b0};
          multiply(out_pixel_words, CB'(out_width));
          state <= OUT_ALL;
        end
        OUT_ALL: begin
          multiply(CB'(product), CB'(out_height));
          state <= OUT_LINE;
        end
        OUT_LINE: begin
          out_words <= CB'(product);
          state     <= PLACE;
        end
        PLACE: begin
          state <= WEIGHTS;
        end
        WEIGHTS: begin
          multiply(CB'(groups), row_words);
          state <= CHECK_WEIGHTS;
        end
        CHECK_WEIGHTS: state <= FINISH;
        default: begin
          prev_width       <= out_width;
          prev_height      <= out_height;
          prev_pixel_words <= out_pixel_words;
          prev_words       <= out_words;
          prev_base        <= CB'(out_base);
          prev_dense       <= dense;
          if (is_first) input_words <= overlay_pkg::ACT_BITS'(total_in);
          done  <= 1'b1;
          state <= IDLE;
        end
      endcase
    if (rst) begin
      state    <= IDLE;
      mul_busy <= 1'b0;
    end
  end

  task automatic multiply(input logic [CB-1:0] a, input logic [CB-1:0] b);
    mul_a    <= (2 * CB)'(a);
    mul_b    <= b;
    product  <= '0;
    mul_busy <= 1'b1;
  endtask

  wire [CB-1:0] run_words = rows ? CB'(1) : dense ? CB'(in_words) : CB'(in_words << 1) + CB'(in_words);
  always_ff @(posedge clk) begin
    layer.rows           <= rows;
    layer.conv           <= conv;
    layer.pool           <= pool;
    layer.last           <= last;
    layer.run_left       <= overlay_pkg::ACT_BITS'(run_words - 1'b1);
    layer.pixel_words    <= overlay_pkg::ACT_BITS'(in_words);
    layer.line_words     <= overlay_pkg::ACT_BITS'(line_words);
    layer.cols_left      <= out_width - 1'b1;
    layer.bands_left     <= out_height - 1'b1;
    layer.groups_left    <= overlay_pkg::GROUP_BITS'(groups - 1'b1);
    layer.in_base        <= overlay_pkg::ACT_BITS'(in_base);
    layer.out_base       <= overlay_pkg::ACT_BITS'(out_base);
    layer.weight_base    <= overlay_pkg::WEIGHT_BITS'(weight_base);
    layer.threshold_base <= overlay_pkg::GROUP_BITS'(threshold_base);
    layer.fan_in         <= overlay_pkg::FAN_IN_BITS'(fan_in);
  end
endmodule
`default_nettype wire
