// The pipeline behind the walker: memories, window packer, array and activation packer.
//   cycle 0 addresses | 1 memory | 2 words, window | 3 array inputs | 4..6 popcount | 7 sums | 8 packed word | 9 stored
`default_nettype none
module compute_core #(
    parameter int LANES = 16,
    parameter int FILTERS = 16,
    parameter int WORD = 32,
    parameter int WEIGHT_DEPTH = 3072,
    parameter int ACT_DEPTH = 4096,
    parameter int GROUP_DEPTH = 256
) (
    input  wire  logic                                                     clk,
    input  wire  logic                                                     rst,
    // model memories
    input  wire  logic [FILTERS-1:0]                                       weight_write,
    input  wire  logic [overlay_pkg::WEIGHT_BITS-1:0]                      weight_addr,
    input  wire  logic [FILTERS-1:0]                                       threshold_write,
    input  wire  logic [overlay_pkg::GROUP_BITS-1:0]                       threshold_addr,
    input  wire  logic [31:0]                                              write_data,
    // images
    input  wire  logic [LANES-1:0]                                         load,
    input  wire  logic [overlay_pkg::ACT_BITS-1:0]                         load_addr,
    input  wire  logic [WORD-1:0]                                          load_data,
    output       logic                                                     may_store,
    // one layer
    input  wire  logic                                                     start,
    input  wire  overlay_pkg::layer_t                                      layer,
    input  wire  logic [overlay_pkg::ACT_BITS-1:0]                         in_base,
    output       logic                                                     walker_busy,
    output       logic                                                     pipeline_busy,
    // logits
    output       logic                                                     group_start,
    input  wire  logic                                                     group_read,
    output       logic [LANES-1:0][FILTERS-1:0][overlay_pkg::ACC_BITS-1:0] acc
);
  // One variable a stage: yosys takes no arrays of structs.
  overlay_pkg::step_t step0, step1, step2, step3, step4, step5, step6, step7;
  layer_walker u_walker (
      .clk, .rst, .start, .layer, .in_base, .group_read, .step(step0), .busy(walker_busy)
  );
  always_ff @(posedge clk) begin
    step1 <= step0;
    step2 <= step1;
    step3 <= step2;
    step4 <= step3;
    step5 <= step4;
    step6 <= step5;
    step7 <= step6;
    if (rst) begin
      step1.valid <= 1'b0;
      step2.valid <= 1'b0;
      step3.valid <= 1'b0;
      step4.valid <= 1'b0;
      step5.valid <= 1'b0;
      step6.valid <= 1'b0;
      step7.valid <= 1'b0;
    end
  end

  logic [LANES-1:0][WORD-1:0] act_words, act, store_data;
  logic [FILTERS-1:0][WORD-1:0] weights;
  logic [FILTERS-1:0][overlay_pkg::ACC_BITS-1:0] thresholds, start_values;
  logic [LANES-1:0][FILTERS-1:0] bits;
  logic store;
  logic [overlay_pkg::ACT_BITS-1:0] store_addr;

  weight_memory #(.FILTERS(FILTERS), .WORD(WORD), .DEPTH(WEIGHT_DEPTH)) u_weights (
      .clk, .write(weight_write), .write_addr(weight_addr), .write_data(write_data[WORD-1:0]),
      .read_addr(step0.weight_addr), .data(weights)
  );
  activation_memory #(.LANES(LANES), .WORD(WORD), .DEPTH(ACT_DEPTH)) u_activations (
      .clk, .load, .load_addr, .load_data, .store, .store_addr, .store_data,
      .read_addr(step0.act_addr), .data(act_words)
  );
  window_packer #(.LANES(LANES), .WORD(WORD)) u_window (
      .clk, .step(step2), .data(act_words), .act
  );
  // The threshold is read late instead of being carried along.
  threshold_memory #(.FILTERS(FILTERS), .DEPTH(GROUP_DEPTH)) u_thresholds (
      .clk, .write(threshold_write), .write_addr(threshold_addr),
      .write_data(write_data[overlay_pkg::ACC_BITS-1:0]), .read_addr(step4.group), .data(thresholds)
  );
  always_ff @(posedge clk) start_values <= step5.logits ? '0 : thresholds;

  pe_array #(.LANES(LANES), .FILTERS(FILTERS), .WORD(WORD)) u_array (
      .clk, .act, .weight(weights), .enable(step6.valid), .first(step6.first),
      .start(start_values), .acc, .bits
  );
  activation_packer #(.LANES(LANES), .FILTERS(FILTERS), .WORD(WORD)) u_packer (
      .clk, .rst, .start, .out_base(layer.out_base), .step(step7), .bits,
      .store, .store_addr, .store_data
  );

  // A cycle before a store at the latest; that a group may only fill half a word is left out, it costs nothing.
  always_ff @(posedge clk) may_store <= step6.valid & step6.last & step6.quad_last & ~step6.logits;

  assign group_start = step7.valid & step7.last & step7.logits;

  assign pipeline_busy = step0.valid | step1.valid | step2.valid | step3.valid | step4.valid | step5.valid
      | step6.valid | step7.valid;

  wire unused = &{1'b0, write_data};
endmodule
`default_nettype wire
