// Widths, codes and records shared by every module of the overlay; fpga/README.md documents the numbers.
package overlay_pkg;
  localparam logic [31:0] OVERLAY_ID = 32'h424E_4E43;  // "BNNC"
  localparam logic [31:0] OVERLAY_VERSION = 32'h0001_0000;
  localparam logic [31:0] MODEL_MAGIC = 32'h4D4E_4E42;  // "BNNM" as little-endian bytes

  localparam int ACT_BITS = 12;  // address of an activation word in a lane
  localparam int WEIGHT_BITS = 12;  // address of a weight word in a bank
  localparam int GROUP_BITS = 8;  // a group is FILTERS outputs computed at once
  localparam int SIDE_BITS = 9;  // 1..256 pixels
  localparam int CLASS_BITS = 8;
  localparam int LAYER_BITS = 4;
  localparam int COUNT_BITS = 13;  // 0..4096 words
  // Fan-in: two input buffers share 4,096 words of 32 bits with everything else, so K < 4,096 * 32 = 2^17 and
  // neither P nor -T leaves 18 signed bits.
  localparam int FAN_IN_BITS = 17;
  localparam int ACC_BITS = 18;
  localparam int LOGIT_BITS = 22;  // |2P - K + bias| <= 2^17 + 2^20

  localparam logic [3:0] OP_CONV = 4'd1;
  localparam logic [3:0] OP_DENSE = 4'd2;
  localparam logic [3:0] OP_CONV_ROWS = 4'd3;  // first layer, one plane, one image row a word

  typedef enum logic [7:0] {
    ERR_NONE = 8'd0,
    ERR_START_BUSY = 8'd1,
    ERR_NO_MODEL = 8'd2,
    ERR_COUNT = 8'd3,
    ERR_WATCHDOG_INPUT = 8'd4,
    ERR_WATCHDOG_OUTPUT = 8'd5,
    ERR_TLAST_EARLY = 8'd6,
    ERR_TLAST_MISSING = 8'd7,
    ERR_MAGIC = 8'd8,
    ERR_HEADER = 8'd9,
    ERR_CRC = 8'd10,
    ERR_LABEL = 8'd11,
    ERR_DESC_CRC = 8'd16,
    ERR_DESC_OP = 8'd17,
    ERR_DESC_SIZE = 8'd18,
    ERR_DESC_INPUT = 8'd19,
    ERR_DESC_GROUPS = 8'd20,
    ERR_DESC_ACTIVATIONS = 8'd21,
    ERR_DESC_WEIGHTS = 8'd22,
    ERR_DESC_THRESHOLDS = 8'd23,
    ERR_DESC_FAN_IN = 8'd24
  } error_t;

  // One decoded layer.  Counts named *_left are "how many more after this one", so that zero means the last.
  typedef struct packed {
    logic                   rows;  // OP_CONV_ROWS
    logic                   conv;  // OP_CONV
    logic                   pool;
    logic                   last;
    logic [ACT_BITS-1:0]    run_left;  // contiguous words of one tap row, or of a dense row
    logic [ACT_BITS-1:0]    pixel_words;
    logic [ACT_BITS-1:0]    line_words;  // from a pixel to the one below it
    logic [SIDE_BITS-1:0]   cols_left;
    logic [SIDE_BITS-1:0]   bands_left;
    logic [GROUP_BITS-1:0]  groups_left;
    logic [ACT_BITS-1:0]    in_base;
    logic [ACT_BITS-1:0]    out_base;
    logic [WEIGHT_BITS-1:0] weight_base;
    logic [GROUP_BITS-1:0]  threshold_base;
    logic [FAN_IN_BITS-1:0] fan_in;
  } layer_t;
  localparam int LAYER_T_BITS = 4 + 5 * ACT_BITS + WEIGHT_BITS + 2 * SIDE_BITS + 2 * GROUP_BITS + FAN_IN_BITS;

  // What the walker asks of the pipeline in one cycle.
  typedef struct packed {
    logic                   valid;  // one weight word against one activation word
    logic                   first;  // of the neuron's words: start from the threshold
    logic                   last;  // of the neuron's words: the sum is complete
    logic                   quad_first;  // first position of a pooled quad (always set without pooling)
    logic                   quad_last;
    logic                   group_last;  // last group of this pixel
    logic                   logits;
    logic                   window;  // take the activation from the window packer
    logic [1:0]             quad;
    logic                   pool;
    logic                   shift;  // the packer moves on by one output column after this word
    logic                   load;  // the packer takes the prefetched band after this word
    logic                   prefetch;
    logic [1:0]             prefetch_row;
    logic [ACT_BITS-1:0]    act_addr;
    logic [WEIGHT_BITS-1:0] weight_addr;
    logic [GROUP_BITS-1:0]  group;
  } step_t;
endpackage
