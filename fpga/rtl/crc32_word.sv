// CRC-32 (the zlib polynomial, reflected) of one more little-endian 32-bit word.  The masks are computed at
// elaboration, so that each output is one balanced XOR instead of a chain of 32 steps.
`default_nettype none
module crc32_word (
    input  wire  logic [31:0] crc,  // register form: starts at all ones, inverted at the end
    input  wire  logic [31:0] word,
    output       logic [31:0] next
);
  // Column i: the CRC register after 32 shifts of a register with only bit i set.
  function automatic logic [31:0] column(input logic [4:0] index);
    logic [31:0] register;
    register = 32'd1 << index;
    for (int i = 0; i < 32; i++) register = register[0] ? (register >> 1) ^ 32'hEDB8_8320 : register >> 1;
    column = register;
  endfunction

  function automatic logic [31:0] mask(input logic [4:0] index);
    logic [31:0] bits;
    logic [31:0] image;
    bits = '0;
    for (int unsigned i = 0; i < 32; i++) begin
      image   = column(5'(i));
      bits[i] = image[index];
    end
    mask = bits;
  endfunction

  for (genvar i = 0; i < 32; i++) begin : g_bit
    localparam logic [31:0] MASK = mask(5'(i));
    assign next[i] = ^(MASK & (crc ^ word));
  end
endmodule
`default_nettype wire
