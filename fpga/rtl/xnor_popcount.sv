// Counts the positions where two words agree; three cycles from inputs to count.
// Stage 1 sums triples (a full adder of three xnors is two 6-input LUTs), stage 2 counts six sums at once.
`default_nettype none
module xnor_popcount #(
    parameter int WORD = 32,
    localparam int COUNT = $clog2(WORD + 1)
) (
    input  wire  logic             clk,
    input  wire  logic [WORD-1:0]  act,
    input  wire  logic [WORD-1:0]  weight,
    output       logic [COUNT-1:0] count
);
  localparam int TRIPLES = (WORD + 2) / 3;
  localparam int SIXES = (TRIPLES + 5) / 6;
  localparam int PADDED = 3 * TRIPLES;

  wire [PADDED-1:0] agree = {{(PADDED - WORD) {1'b0}}, act ~^ weight};

  logic [6*SIXES-1:0] ones, twos;
  always_ff @(posedge clk) begin
    ones <= '0;
    twos <= '0;
    for (int i = 0; i < TRIPLES; i++) begin
      ones[i] <= agree[3*i] ^ agree[3*i+1] ^ agree[3*i+2];
      twos[i] <= (agree[3*i] & agree[3*i+1]) | (agree[3*i+2] & (agree[3*i] | agree[3*i+1]));
    end
  end

  function automatic logic [2:0] count_six(input logic [5:0] bits);
    logic [1:0] low, high;
    logic       carry;
    low       = {(bits[0] & bits[1]) | (bits[2] & (bits[0] | bits[1])), bits[0] ^ bits[1] ^ bits[2]};
    high      = {(bits[3] & bits[4]) | (bits[5] & (bits[3] | bits[4])), bits[3] ^ bits[4] ^ bits[5]};
    carry     = low[0] & high[0];
    count_six = {(low[1] & high[1]) | (carry & (low[1] | high[1])), low[1] ^ high[1] ^ carry, low[0] ^ high[0]};
  endfunction

  logic [SIXES-1:0][4:0] partial;  // 0..18 each
  always_ff @(posedge clk)
    for (int i = 0; i < SIXES; i++)
      partial[i] <= {2'b0, count_six(ones[6*i+:6])} + {1'b0, count_six(twos[6*i+:6]), 1'b0};

  logic [COUNT-1:0] total;
  always_comb begin
    total = COUNT'(partial[0]);
    for (int i = 1; i < SIXES; i++) total = total + COUNT'(partial[i]);
  end
  always_ff @(posedge clk) count <= total;
endmodule
`default_nettype wire
