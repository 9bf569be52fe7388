# Builds bnn_overlay.bit and bnn_overlay.hwh for the PYNQ-Z2.  NEVER RUN ON HARDWARE, nor in Vivado, so far.
#
#   vivado -mode batch -source build.tcl            (Vivado 2022.1 or newer, in this directory)

set part xc7z020clg400-1
set name bnn_overlay
set here [file dirname [file normalize [info script]]]
set rtl [file normalize $here/../../rtl]
set out [file normalize $here/../../build/pynq_z2]
set clock_mhz 100

create_project -force $name $out/project -part $part
# The board files are optional: with them the DDR timing is the board's, without them PS7 is set up by ps7.tcl below.
if {[llength [get_board_parts -quiet *pynq-z2*]]} {
    set_property board_part [lindex [get_board_parts *pynq-z2*] end] [current_project]
}
add_files [glob $rtl/*.sv]
add_files $here/bnn_overlay_wrapper.v
add_files -fileset constrs_1 $here/constraints.xdc
set_property file_type SystemVerilog [get_files *.sv]
update_compile_order -fileset sources_1

create_bd_design system
set ps [create_bd_cell -type ip -vlnv xilinx.com:ip:processing_system7 ps7]
if {[get_property board_part [current_project]] ne ""} {
    apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 \
        -config {make_external "FIXED_IO, DDR" apply_board_preset "1"} $ps
} else {
    source $here/ps7.tcl
    apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 \
        -config {make_external "FIXED_IO, DDR" apply_board_preset "0"} $ps
}
set_property -dict [list \
    CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $clock_mhz \
    CONFIG.PCW_USE_S_AXI_HP0 1 \
    CONFIG.PCW_USE_FABRIC_INTERRUPT 1 \
    CONFIG.PCW_IRQ_F2P_INTR 1] $ps

# 26 length bits: a run of 8,192 images with 256 logits each is 8.4 MB.
set dma [create_bd_cell -type ip -vlnv xilinx.com:ip:axi_dma axi_dma_0]
set_property -dict [list \
    CONFIG.c_include_sg 0 \
    CONFIG.c_sg_length_width 26 \
    CONFIG.c_m_axis_mm2s_tdata_width 32 \
    CONFIG.c_s_axis_s2mm_tdata_width 32 \
    CONFIG.c_mm2s_burst_size 64 \
    CONFIG.c_s2mm_burst_size 64] $dma

set overlay [create_bd_cell -type module -reference bnn_overlay_wrapper bnn_overlay_0]
connect_bd_intf_net [get_bd_intf_pins axi_dma_0/M_AXIS_MM2S] [get_bd_intf_pins bnn_overlay_0/s_axis]
connect_bd_intf_net [get_bd_intf_pins bnn_overlay_0/m_axis] [get_bd_intf_pins axi_dma_0/S_AXIS_S2MM]

foreach slave {axi_dma_0/S_AXI_LITE bnn_overlay_0/s_axil} {
    apply_bd_automation -rule xilinx.com:bd_rule:axi4 \
        -config {Clk_master Auto Clk_slave Auto Clk_xbar Auto Master "/ps7/M_AXI_GP0" intc_ip "Auto"} \
        [get_bd_intf_pins $slave]
}
apply_bd_automation -rule xilinx.com:bd_rule:axi4 \
    -config {Clk_master Auto Clk_slave Auto Clk_xbar Auto Master "/axi_dma_0/M_AXI_MM2S" intc_ip "Auto"} \
    [get_bd_intf_pins ps7/S_AXI_HP0]
apply_bd_automation -rule xilinx.com:bd_rule:axi4 \
    -config {Clk_master Auto Clk_slave Auto Clk_xbar Auto Master "/axi_dma_0/M_AXI_S2MM" Slave "/ps7/S_AXI_HP0" intc_ip "Auto"} \
    [get_bd_intf_pins axi_dma_0/M_AXI_S2MM]

set interrupts [create_bd_cell -type ip -vlnv xilinx.com:ip:xlconcat interrupts]
set_property CONFIG.NUM_PORTS 3 $interrupts
connect_bd_net [get_bd_pins bnn_overlay_0/irq] [get_bd_pins interrupts/In0]
connect_bd_net [get_bd_pins axi_dma_0/mm2s_introut] [get_bd_pins interrupts/In1]
connect_bd_net [get_bd_pins axi_dma_0/s2mm_introut] [get_bd_pins interrupts/In2]
connect_bd_net [get_bd_pins interrupts/dout] [get_bd_pins ps7/IRQ_F2P]

assign_bd_address
validate_bd_design
save_bd_design
make_wrapper -files [get_files system.bd] -top -import
set_property top system_wrapper [current_fileset]

launch_runs impl_1 -to_step write_bitstream -jobs 4
wait_on_run impl_1
if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} { error "implementation failed" }

open_run impl_1
report_timing_summary -file $out/timing.rpt
report_utilization -hierarchical -file $out/utilization.rpt
if {[get_property SLACK [get_timing_paths -max_paths 1]] < 0} { error "timing is not met at $clock_mhz MHz" }

file copy -force [glob $out/project/$name.runs/impl_1/*.bit] $out/$name.bit
file copy -force [glob $out/project/$name.gen/sources_1/bd/system/hw_handoff/*.hwh] $out/$name.hwh
puts "wrote $out/$name.bit and $out/$name.hwh"
