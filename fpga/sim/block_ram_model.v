// What yosys' RAMB18E1 and RAMB36E1 lack: behaviour.  Simple and true dual port, any width, READ_FIRST, one clock,
// no output register, no cascade, contents zero at power-on.  For re-simulating netlists only.
`timescale 1ps / 1ps
module block_ram_model #(
    parameter WORDS = 512,  // of 64 data and 8 parity bits
    parameter BITS = 15,  // of an address
    parameter PORT = 32,  // data bits of one port
    parameter SDP = 1,
    parameter READ_A = 36, parameter READ_B = 0, parameter WRITE_A = 0, parameter WRITE_B = 36
) (
    input clk,
    input enable_a, input enable_b,
    input [BITS-1:0] addr_a, input [BITS-1:0] addr_b,
    input [PORT-1:0] in_a, input [PORT-1:0] in_b,
    input [PORT/8-1:0] in_parity_a, input [PORT/8-1:0] in_parity_b,
    input [7:0] write_a, input [7:0] write_b,
    output reg [PORT-1:0] out_a, output reg [PORT-1:0] out_b,
    output reg [PORT/8-1:0] out_parity_a, output reg [PORT/8-1:0] out_parity_b
);
  localparam WIDE = 9 * PORT / 4;  // a port pair used as one, in SDP mode
  reg [63:0] data[0:WORDS-1];
  reg [7:0] parity[0:WORDS-1];
  integer i;
  initial for (i = 0; i < WORDS; i = i + 1) begin
    data[i] = 0;
    parity[i] = 0;
  end

  function integer data_bits(input integer width);
    data_bits = width >= 9 ? width / 9 * 8 : width;
  endfunction

  function [5:0] offset(input [BITS-1:0] addr, input integer width);
    offset = addr[5:0] & ~(data_bits(width) - 1);
  endfunction

  // What a port of this width sees: data in the low 64 bits, parity above.
  function [71:0] look(input [BITS-1:0] addr, input integer width);
    reg [63:0] mask;
    begin
      mask = ~(64'hFFFF_FFFF_FFFF_FFFF << data_bits(width));
      look[63:0] = (data[addr[BITS-1:6]] >> offset(addr, width)) & (data_bits(width) == 64 ? ~64'd0 : mask);
      look[71:64] = width >= 9 ? parity[addr[BITS-1:6]] >> (offset(addr, width) / 8) : 8'd0;
    end
  endfunction

  task store(input [BITS-1:0] addr, input integer width, input [63:0] word, input [7:0] word_parity, input [7:0] strobes);
    integer k;
    begin
      if (width < 9) begin
        if (strobes[0])
          for (k = 0; k < data_bits(width); k = k + 1) data[addr[BITS-1:6]][offset(addr, width)+k] <= word[k];
      end else
        for (k = 0; k < width / 9; k = k + 1)
          if (strobes[k]) begin
            data[addr[BITS-1:6]][offset(addr, width)+8*k+:8] <= word[8*k+:8];
            parity[addr[BITS-1:6]][offset(addr, width)/8+k] <= word_parity[k];
          end
    end
  endtask

  always @(posedge clk) begin
    if (SDP) begin
      if (enable_a) begin
        out_a <= look(addr_a, READ_A);
        out_parity_a <= look(addr_a, READ_A) >> 64;
        if (READ_A == WIDE) begin
          out_b <= look(addr_a, READ_A) >> PORT;
          out_parity_b <= look(addr_a, READ_A) >> (64 + PORT / 8);
        end
      end
      if (enable_b)
        if (WRITE_B == WIDE) store(addr_b, WRITE_B, {in_b, in_a}, {in_parity_b, in_parity_a}, write_b);
        else store(addr_b, WRITE_B, in_b, in_parity_b, write_b);
    end else begin
      if (enable_a) begin
        out_a <= look(addr_a, READ_A);
        out_parity_a <= look(addr_a, READ_A) >> 64;
        store(addr_a, WRITE_A, in_a, in_parity_a, write_a);
      end
      if (enable_b) begin
        out_b <= look(addr_b, READ_B);
        out_parity_b <= look(addr_b, READ_B) >> 64;
        store(addr_b, WRITE_B, in_b, in_parity_b, write_b);
      end
    end
  end
endmodule
