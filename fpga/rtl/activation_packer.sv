// ORs the positions of a pooled quad and collects groups of FILTERS bits into words; writes each word once, whole,
// so a word never keeps bits of an earlier layer.  The output pointer only counts up: outputs come in memory order.
`default_nettype none
module activation_packer #(
    parameter int LANES = 16,
    parameter int FILTERS = 16,
    parameter int WORD = 32
) (
    input  wire  logic                                clk,
    input  wire  logic                                rst,
    input  wire  logic                                start,  // of a layer
    input  wire  logic [overlay_pkg::ACT_BITS-1:0]    out_base,
    input  wire  overlay_pkg::step_t                  step,  // aligned with bits
    input  wire  logic [LANES-1:0][FILTERS-1:0]       bits,
    output       logic                                store,
    output       logic [overlay_pkg::ACT_BITS-1:0]    store_addr,
    output       logic [LANES-1:0][WORD-1:0]          store_data
);
  localparam int SLOTS = WORD / FILTERS;
  localparam int SLOT_BITS = SLOTS > 1 ? $clog2(SLOTS) : 1;

  logic [SLOT_BITS-1:0] slot;
  logic [overlay_pkg::ACT_BITS-1:0] pointer;
  logic [LANES-1:0][FILTERS-1:0] pooled, pooled_q;

  assign pooled = step.quad_first ? bits : pooled_q | bits;
  wire collect = step.valid & step.last & ~step.logits & step.quad_last;
  wire full = step.group_last || slot == SLOT_BITS'(SLOTS - 1);
  wire store_next = collect & full;

  always_ff @(posedge clk) begin
    if (step.valid & step.last) pooled_q <= pooled;
    if (collect) begin
      slot <= full ? '0 : slot + 1'b1;
      for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < SLOTS; i++)
          if (slot == SLOT_BITS'(i)) store_data[lane][FILTERS*i+:FILTERS] <= pooled[lane];
          else if (slot == '0) store_data[lane][FILTERS*i+:FILTERS] <= '0;
    end
    store <= store_next;
    if (store_next) begin
      store_addr <= pointer;
      pointer    <= pointer + 1'b1;
    end
    if (start) begin
      pointer <= out_base;
      slot    <= '0;
    end
    if (rst) store <= 1'b0;
  end

  wire unused = &{1'b0, step.first, step.window, step.quad, step.pool, step.shift, step.load, step.prefetch,
                  step.prefetch_row, step.act_addr, step.weight_addr, step.group};
endmodule
`default_nettype wire
