// Runs the layers of one batch after the other on whichever input buffer is full, until the run's last batch.
`default_nettype none
module batch_sequencer #(
    parameter int LAYERS = 16
) (
    input  wire  logic                                clk,
    input  wire  logic                                rst,
    input  wire  logic                                start,
    // layer table, written by the descriptor decoder
    input  wire  logic                                layer_write,
    input  wire  logic [overlay_pkg::LAYER_BITS-1:0]  layer_write_index,
    input  wire  overlay_pkg::layer_t                 layer_write_data,
    input  wire  logic [overlay_pkg::ACT_BITS-1:0]    input_words,
    // input buffers
    input  wire  logic [1:0]                          full,
    input  wire  logic [1:0]                          is_final,
    output       logic [1:0]                          free,
    output       logic                                bank,
    // the walker and what follows it
    output       overlay_pkg::layer_t                 layer,
    output       logic [overlay_pkg::ACT_BITS-1:0]    in_base,
    output       logic                                layer_start,
    input  wire  logic                                walker_busy,
    input  wire  logic                                pipeline_busy,
    // the class unit and the result stream
    output       logic                                batch_start,  // labels of bank are latched now
    output       logic                                batch_final,
    input  wire  logic                                batch_done,
    input  wire  logic                                room,
    input  wire  logic                                results_busy,
    output       logic                                done,
    // cycles of each layer in the latest batch
    input  wire  logic [overlay_pkg::LAYER_BITS-1:0]  cycles_index,
    output       logic [31:0]                         layer_cycles
);
  typedef enum logic [2:0] {IDLE, WAIT, FETCH, START, RUN, FLUSH} state_t;
  state_t state;

  (* ram_style = "distributed" *) logic [overlay_pkg::LAYER_T_BITS-1:0] table_mem[LAYERS];
  (* ram_style = "distributed" *) logic [31:0] cycles_mem[LAYERS];
  localparam int INDEX_BITS = $clog2(LAYERS);

  logic [overlay_pkg::LAYER_BITS-1:0] index;
  logic [31:0] cycles;
  logic run_final;
  logic class_pending;  // the class unit has not finished the batch before

  logic active;
  always_ff @(posedge clk) active <= walker_busy | pipeline_busy;
  wire layer_done = state == RUN & ~walker_busy & ~active;
  wire waiting = state == IDLE | (state == WAIT & index == '0 & ~full[bank]);  // for images: no layer's cycles
  wire wait_room = layer.last & (~room | class_pending);

  assign layer_start = state == START & ~wait_room;
  assign batch_start = layer_done & index == '0;
  always_comb begin
    free       = '0;
    free[bank] = batch_start;
  end

  always_ff @(posedge clk) begin
    if (layer_write) table_mem[layer_write_index[INDEX_BITS-1:0]] <= layer_write_data;
    layer        <= table_mem[index[INDEX_BITS-1:0]];
    layer_cycles <= cycles_mem[cycles_index[INDEX_BITS-1:0]];
    if (layer_done) cycles_mem[index[INDEX_BITS-1:0]] <= cycles;
    // The first layer reads the buffer of this batch, which no descriptor can know.
    in_base <= index != '0 ? layer.in_base : bank ? input_words : '0;

    done   <= 1'b0;
    // Waiting for images or for room in the output stream is nobody's computation.
    if (layer_done | waiting) cycles <= 32'd1;
    else if (~(state == START & wait_room)) cycles <= cycles + 1'b1;
    if (batch_done) class_pending <= 1'b0;
    case (state)
      IDLE: begin
        index <= '0;
        bank  <= 1'b0;
        if (start) state <= WAIT;
      end
      WAIT: if (~waiting) state <= FETCH;  // layer follows index in one cycle, in_base in two
      FETCH: state <= START;
      START: if (~wait_room) state <= RUN;
      RUN:
      if (layer_done) begin
        index  <= layer.last ? '0 : index + 1'b1;
        if (index == '0) run_final <= is_final[bank];
        if (layer.last) begin
          class_pending <= 1'b1;
          bank          <= ~bank;
          batch_final   <= index == '0 ? is_final[bank] : run_final;
          state         <= (index == '0 ? is_final[bank] : run_final) ? FLUSH : WAIT;
        end else state <= WAIT;
      end
      FLUSH:
      if (~class_pending & ~results_busy) begin
        done  <= 1'b1;
        state <= IDLE;
      end
      default: state <= IDLE;
    endcase
    if (rst) begin
      state         <= IDLE;
      class_pending <= 1'b0;
    end
  end
endmodule
`default_nettype wire
