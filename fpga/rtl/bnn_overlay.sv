// The overlay: AXI4-Lite registers, one AXI4-Stream in (models, images), one out (predictions, logits), one interrupt.
`default_nettype none
module bnn_overlay #(
    parameter int LANES = 16,
    parameter int FILTERS = 16,
    parameter int WORD = 32,
    parameter int WEIGHT_DEPTH = 3072,
    parameter int ACT_DEPTH = 4096,
    parameter int GROUP_DEPTH = 256,
    parameter int LAYERS = 16,
    parameter int CLASSES = 256
) (
    input  wire  logic        aclk,
    input  wire  logic        aresetn,

    input  wire  logic [7:0]  s_axil_awaddr,
    input  wire  logic [2:0]  s_axil_awprot,
    input  wire  logic        s_axil_awvalid,
    output       logic        s_axil_awready,
    input  wire  logic [31:0] s_axil_wdata,
    input  wire  logic [3:0]  s_axil_wstrb,
    input  wire  logic        s_axil_wvalid,
    output       logic        s_axil_wready,
    output       logic [1:0]  s_axil_bresp,
    output       logic        s_axil_bvalid,
    input  wire  logic        s_axil_bready,
    input  wire  logic [7:0]  s_axil_araddr,
    input  wire  logic [2:0]  s_axil_arprot,
    input  wire  logic        s_axil_arvalid,
    output       logic        s_axil_arready,
    output       logic [31:0] s_axil_rdata,
    output       logic [1:0]  s_axil_rresp,
    output       logic        s_axil_rvalid,
    input  wire  logic        s_axil_rready,

    input  wire  logic [31:0] s_axis_tdata,
    input  wire  logic        s_axis_tvalid,
    input  wire  logic        s_axis_tlast,
    output       logic        s_axis_tready,

    output       logic [31:0] m_axis_tdata,
    output       logic        m_axis_tvalid,
    output       logic        m_axis_tlast,
    input  wire  logic        m_axis_tready,

    output       logic        irq
);
  localparam int LANE_COUNT_BITS = $clog2(LANES + 1);
  localparam int CLASS_BITS = overlay_pkg::CLASS_BITS;

  logic rst;
  always_ff @(posedge aclk) rst <= ~aresetn;

  // ---- registers and state
  logic load_request, run_request, reset_request, irq_enable, send_predictions, send_logits;
  logic [31:0] image_count, watchdog_limit, status, correct, images_done, cycles, model_crc, layer_cycles;
  logic [overlay_pkg::LAYER_BITS-1:0] cycles_index, layer_index;
  logic datapath_reset, loading, running, load_start, run_start, load_done, run_done;
  overlay_pkg::error_t load_error, run_error;
  logic batch_done;
  logic [LANE_COUNT_BITS-1:0] batch_lanes, batch_correct;
  logic progress, output_stuck;

  axil_registers #(
      .CAPS0({8'(LAYERS), 8'(WORD), 8'(FILTERS), 8'(LANES)}),
      .CAPS1({16'(ACT_DEPTH), 16'(WEIGHT_DEPTH)}),
      .CAPS2({16'(CLASSES), 16'(GROUP_DEPTH)})
  ) u_registers (
      .clk(aclk), .rst, .*
  );

  run_control #(.LANES(LANES)) u_control (
      .clk(aclk), .rst, .load_layer(layer_index), .*
  );

  // ---- input stream: to whoever is busy; after an error it is drained, while idle it waits
  logic model_tready, image_tready;
  wire drain = status[2];  // failed
  assign s_axis_tready = loading ? model_tready : running ? image_tready : drain;

  // ---- model
  logic [FILTERS-1:0] weight_write, threshold_write;
  logic [overlay_pkg::WEIGHT_BITS-1:0] weight_addr;
  logic [overlay_pkg::GROUP_BITS-1:0] threshold_addr;
  logic bias_write, layer_write;
  logic [CLASS_BITS-1:0] bias_addr, classes_left;
  logic [31:0] write_data;
  overlay_pkg::layer_t layer_write_data, layer;
  logic [overlay_pkg::ACT_BITS-1:0] input_words, in_base;

  model_loader #(
      .FILTERS(FILTERS), .WORD(WORD), .WEIGHT_DEPTH(WEIGHT_DEPTH), .ACT_DEPTH(ACT_DEPTH),
      .GROUP_DEPTH(GROUP_DEPTH), .LAYERS(LAYERS), .CLASSES(CLASSES)
  ) u_model (
      .clk(aclk), .rst(datapath_reset), .start(load_start), .s_axis_tdata,
      .s_axis_tvalid(s_axis_tvalid & loading), .s_axis_tlast, .s_axis_tready(model_tready),
      .weight_write, .weight_addr, .threshold_write, .threshold_addr, .bias_write, .bias_addr, .write_data,
      .layer_write, .layer_index, .layer(layer_write_data), .classes_left, .input_words, .model_crc,
      .done(load_done), .error(load_error)
  );

  // ---- images
  logic may_store;
  logic [LANES-1:0] load;
  logic [overlay_pkg::ACT_BITS-1:0] load_addr;
  logic [WORD-1:0] load_data;
  logic [1:0] full, is_final, free;
  logic [1:0][LANE_COUNT_BITS-1:0] lanes;
  logic [1:0][LANES-1:0][CLASS_BITS-1:0] labels;

  image_loader #(.LANES(LANES), .WORD(WORD)) u_images (
      .clk(aclk), .rst(datapath_reset), .start(run_start), .image_count, .input_words, .classes_left,
      .s_axis_tdata, .s_axis_tvalid(s_axis_tvalid & running), .s_axis_tlast, .s_axis_tready(image_tready),
      .may_store, .load, .load_addr, .load_data, .full, .is_final, .lanes, .labels, .free, .error(run_error)
  );

  // ---- batches
  logic bank, layer_start, walker_busy, pipeline_busy, batch_start, batch_final, room, class_busy, stream_busy;
  batch_sequencer #(.LAYERS(LAYERS)) u_sequencer (
      .clk(aclk), .rst(datapath_reset), .start(run_start), .layer_write, .layer_write_index(layer_index),
      .layer_write_data, .input_words, .full, .is_final, .free, .bank, .layer, .in_base, .layer_start,
      .walker_busy, .pipeline_busy, .batch_start, .batch_final, .batch_done, .room,
      .results_busy(stream_busy | class_busy), .done(run_done), .cycles_index, .layer_cycles
  );

  logic group_start, group_read;
  logic [LANES-1:0][FILTERS-1:0][overlay_pkg::ACC_BITS-1:0] acc;
  compute_core #(
      .LANES(LANES), .FILTERS(FILTERS), .WORD(WORD), .WEIGHT_DEPTH(WEIGHT_DEPTH), .ACT_DEPTH(ACT_DEPTH),
      .GROUP_DEPTH(GROUP_DEPTH)
  ) u_core (
      .clk(aclk), .rst(datapath_reset), .weight_write, .weight_addr, .threshold_write, .threshold_addr, .write_data,
      .load, .load_addr, .load_data, .may_store, .start(layer_start), .layer, .in_base, .walker_busy,
      .pipeline_busy, .group_start, .group_read, .acc
  );

  // ---- results
  logic logit_write;
  logic [CLASS_BITS-1:0] logit_class;
  logic [LANES-1:0][overlay_pkg::LOGIT_BITS-1:0] logits;
  logic [LANES-1:0][CLASS_BITS-1:0] predictions;

  class_unit #(.LANES(LANES), .FILTERS(FILTERS), .CLASSES(CLASSES)) u_classes (
      .clk(aclk), .rst(datapath_reset), .bias_write, .bias_addr,
      .bias_data(write_data[overlay_pkg::LOGIT_BITS-1:0]), .batch_start, .labels(labels[bank]), .lanes(lanes[bank]),
      .classes_left, .fan_in(layer.fan_in), .group_start, .acc, .group_read, .logit_write, .logit_class, .logits,
      .predictions, .batch_done, .batch_lanes, .batch_correct, .busy(class_busy)
  );

  result_stream #(.LANES(LANES), .CLASSES(CLASSES)) u_results (
      .clk(aclk), .rst(datapath_reset), .send_predictions, .send_logits, .classes_left, .logit_write, .logit_class,
      .logits, .batch_done, .predictions, .batch_lanes, .batch_final, .room, .busy(stream_busy),
      .m_axis_tdata, .m_axis_tvalid, .m_axis_tlast, .m_axis_tready
  );

  assign output_stuck = m_axis_tvalid & ~m_axis_tready;
  assign progress = (s_axis_tvalid & s_axis_tready) | (m_axis_tvalid & m_axis_tready) | walker_busy | pipeline_busy;
endmodule
`default_nettype wire
