// Walks one layer: every output band, column, group, pooled position, tap row and word, one step a cycle.
// Addresses are incremental (a multiplication would cost a dozen LUT levels): the base of the next position is
// prepared in next_base while the current one is read, which a convolution's nine or more words leave time for.
`default_nettype none
module layer_walker (
    input  wire  logic                             clk,
    input  wire  logic                             rst,
    input  wire  logic                             start,
    input  wire  overlay_pkg::layer_t              layer,  // stable from start on
    input  wire  logic [overlay_pkg::ACT_BITS-1:0] in_base,
    input  wire  logic                             group_read,  // the class unit has read a group of logits
    output       overlay_pkg::step_t               step,
    output       logic                             busy
);
  typedef enum logic [1:0] {IDLE, FILL, RUN, HOLD} state_t;
  state_t state;
  assign busy = state != IDLE;

  // ---- counters of the loop nest, innermost last
  logic [overlay_pkg::SIDE_BITS-1:0] bands_left, cols_left;
  logic [overlay_pkg::GROUP_BITS-1:0] groups_left, group;
  logic [1:0] quad, tap_row;
  logic [overlay_pkg::ACT_BITS-1:0] run_left;
  logic first;
  // Set while the counter is zero, computed with the counter: comparing afterwards would cost two LUT levels.
  logic run_end, tap_end, word_end, quad_end, group_end, col_end, band_end, prefetched;

  wire neuron_end = word_end & quad_end;
  wire pixel_end = neuron_end & group_end;
  wire line_end = pixel_end & col_end;

  // ---- prefetch of image rows for the window packer
  logic [2:0] rows_left;
  logic [1:0] prefetch_row;
  logic [overlay_pkg::ACT_BITS-1:0] prefetch_addr, prefetch_band;
  wire [2:0] band_rows = layer.pool ? 3'd4 : 3'd3;
  wire [1:0] band_step = layer.pool ? 2'd2 : 2'd1;
  wire prefetch = busy & layer.rows & ~prefetched;
  // The last word of a band waits for the next band's rows.
  wire blocked = layer.rows & ~band_end & ~prefetched;
  wire issue = state == RUN & ~(blocked & line_end);
  wire line_step = state == RUN & ~blocked & line_end;
  wire load = (state == FILL & prefetched) | (line_step & layer.rows & ~band_end);

  // ---- addresses
  logic [overlay_pkg::ACT_BITS-1:0] act_addr, next_base, position_base, pixel_base, line_base;
  logic [overlay_pkg::WEIGHT_BITS-1:0] weight_addr, weight_row;
  wire [overlay_pkg::ACT_BITS-1:0] next_tap_row = layer.line_words - layer.run_left;
  wire [overlay_pkg::ACT_BITS-1:0] pool_back = layer.line_words - layer.pixel_words;

  logic group_end_q;  // of the step that led to HOLD
  always_ff @(posedge clk) if (issue) group_end_q <= group_end;

  logic [overlay_pkg::ACT_BITS-1:0] hop_from, hop;
  always_comb begin
    if (~quad_end) begin
      hop_from = position_base;
      hop      = quad == 2'd1 ? pool_back : layer.pixel_words;
    end else if (~group_end) begin
      hop_from = pixel_base;
      hop      = '0;
    end else if (~col_end) begin
      hop_from = pixel_base;
      hop      = layer.pool ? layer.pixel_words << 1 : layer.pixel_words;
    end else begin
      hop_from = line_base;
      hop      = layer.pool ? layer.line_words << 1 : layer.line_words;
    end
  end
  always_ff @(posedge clk) next_base <= layer.conv ? hop_from + hop : in_base;

  always_ff @(posedge clk) begin
    step              <= '0;
    step.valid        <= issue;
    step.first        <= first;
    step.last         <= word_end;
    step.quad_first   <= ~layer.pool | quad == 2'd0;
    step.quad_last    <= quad_end;
    step.group_last   <= group_end;
    step.logits       <= layer.last;
    step.window       <= layer.rows;
    step.quad         <= quad;
    step.pool         <= layer.pool;
    step.shift        <= issue & pixel_end;
    step.load         <= load;
    step.prefetch     <= prefetch;
    step.prefetch_row <= prefetch_row;
    step.act_addr     <= layer.rows ? prefetch_addr : act_addr;
    step.weight_addr  <= weight_addr;
    step.group        <= group;

    if (prefetch) begin
      rows_left     <= rows_left - 1'b1;
      prefetched    <= rows_left == 3'd1;
      prefetch_row  <= prefetch_row + 1'b1;
      prefetch_addr <= prefetch_addr + 1'b1;
    end
    if (load) begin
      rows_left     <= band_rows;
      prefetched    <= 1'b0;
      prefetch_row  <= '0;
      prefetch_band <= prefetch_band + overlay_pkg::ACT_BITS'(band_step);
      prefetch_addr <= prefetch_band + overlay_pkg::ACT_BITS'(band_step);
    end

    if (issue) begin
      first    <= word_end;
      run_left <= run_end ? layer.run_left : run_left - 1'b1;
      run_end  <= run_end ? layer.run_left == '0 : run_left == 1;
      // A convolution's tap row has three words or more, so that none begins with its last word.
      word_end <= run_end ? ~layer.conv & layer.run_left == '0 : run_left == 1 & tap_end;
      tap_row  <= word_end ? '0 : tap_row + {1'b0, run_end};
      if (run_end) tap_end <= ~layer.conv | (tap_row == 2'd1 & ~tap_end);
      act_addr <= word_end ? next_base : run_end ? act_addr + next_tap_row : act_addr + 1'b1;
      if (word_end) begin
        position_base <= next_base;
        quad          <= quad_end ? '0 : quad + 1'b1;
        quad_end      <= ~layer.pool | quad == 2'd2;
      end
      if (neuron_end) begin
        groups_left <= group_end ? layer.groups_left : groups_left - 1'b1;
        group_end   <= group_end ? layer.groups_left == '0 : groups_left == 1;
        group       <= group_end ? layer.threshold_base : group + 1'b1;
      end
      weight_addr <= word_end & ~quad_end ? weight_row : pixel_end ? layer.weight_base : weight_addr + 1'b1;
      if (neuron_end) weight_row <= group_end ? layer.weight_base : weight_addr + 1'b1;
      if (pixel_end) begin
        pixel_base <= next_base;
        cols_left  <= col_end ? layer.cols_left : cols_left - 1'b1;
        col_end    <= col_end ? layer.cols_left == '0 : cols_left == 1;
      end
    end
    if (line_step) begin
      line_base  <= next_base;
      bands_left <= bands_left - 1'b1;
      band_end   <= bands_left == 1;
    end

    case (state)
      IDLE: begin
        if (start) state <= layer.rows ? FILL : RUN;
        first         <= 1'b1;
        run_end       <= layer.run_left == '0;
        tap_end       <= ~layer.conv;
        word_end      <= ~layer.conv & layer.run_left == '0;
        quad_end      <= ~layer.pool;
        group_end     <= layer.groups_left == '0;
        col_end       <= layer.cols_left == '0;
        band_end      <= layer.bands_left == '0;
        run_left      <= layer.run_left;
        tap_row       <= '0;
        quad          <= '0;
        groups_left   <= layer.groups_left;
        group         <= layer.threshold_base;
        cols_left     <= layer.cols_left;
        bands_left    <= layer.bands_left;
        act_addr      <= in_base;
        position_base <= in_base;
        pixel_base    <= in_base;
        line_base     <= in_base;
        weight_addr   <= layer.weight_base;
        weight_row    <= layer.weight_base;
        prefetch_band <= in_base;
        prefetch_addr <= in_base;
        prefetch_row  <= '0;
        rows_left     <= band_rows;
        prefetched    <= 1'b0;
      end
      FILL: if (prefetched) state <= RUN;
      // The accumulators are the only copy of a group's logits: wait until they have been read.
      // Neither is ever blocked: the last layer has no bands, and the last band waits for no other.
      RUN: if (layer.last) state <= neuron_end ? HOLD : RUN;
           else if (line_end & band_end) state <= IDLE;
      HOLD: if (group_read) state <= group_end_q ? IDLE : RUN;
    endcase
    if (rst) state <= IDLE;
  end

  wire unused = &{1'b0, layer.in_base, layer.out_base, layer.fan_in};
endmodule
`default_nettype wire
