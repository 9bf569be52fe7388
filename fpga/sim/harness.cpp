// A board made of a Verilated overlay: AXI4-Lite accesses, a DMA engine for each stream, random stalls, a cycle
// count that knows nothing of the overlay's own.  Plain C functions, driven through cffi.
#include "Vbnn_overlay.h"
#include "verilated.h"

#include <cstdint>
#include <memory>

namespace {

struct Board {
    VerilatedContext context;
    std::unique_ptr<Vbnn_overlay> top{new Vbnn_overlay{&context}};
    uint64_t cycles = 0;
    uint64_t last_write_cycle = 0;
    uint64_t irq_cycle = 0;
    bool irq_seen = false;  // risen since the latest write
    bool irq_before = false;

    const uint32_t *send = nullptr;
    uint64_t send_words = 0, sent = 0;
    bool send_last = true;
    uint32_t *receive = nullptr;
    uint64_t receive_words = 0, received = 0;
    bool receive_ended = false;  // TLAST seen

    uint64_t random = 1;
    uint32_t send_stall = 0, receive_stall = 0;  // chance of an idle cycle, of 256

    ~Board() { top->final(); }

    bool chance(uint32_t of_256) {
        if (of_256 == 0) return false;
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        return ((random >> 33) & 255) < of_256;
    }

    void tick() {
        // AXI: once valid, a word stays valid until it is taken; ready may come and go.
        if (!top->s_axis_tvalid && sent < send_words && !chance(send_stall)) {
            top->s_axis_tvalid = 1;
            top->s_axis_tdata = send[sent];
            top->s_axis_tlast = send_last && sent + 1 == send_words;
        }
        top->m_axis_tready = receive && received < receive_words && !receive_ended && !chance(receive_stall);
        top->aclk = 0;
        top->eval();
        const bool taken = top->s_axis_tvalid && top->s_axis_tready;
        if (top->m_axis_tvalid && top->m_axis_tready) {
            receive[received++] = top->m_axis_tdata;
            receive_ended = top->m_axis_tlast;
        }
        top->aclk = 1;
        top->eval();
        if (taken) {
            ++sent;
            top->s_axis_tvalid = 0;
        }
        ++cycles;
        if (top->irq && !irq_before && !irq_seen) {
            irq_seen = true;
            irq_cycle = cycles;
        }
        irq_before = top->irq;
    }
};

constexpr int kBusTimeout = 1000;

}  // namespace

extern "C" {

void *board_new() {
    Board *board = new Board;
    auto &top = *board->top;
    top.aresetn = 0;
    top.s_axil_bready = top.s_axil_rready = 1;
    for (int i = 0; i < 4; ++i) board->tick();
    top.aresetn = 1;
    board->tick();
    board->tick();
    return board;
}

void board_free(void *handle) { delete static_cast<Board *>(handle); }

// Returns the AXI response, or -1 if the bus never answered.
int board_write(void *handle, uint32_t address, uint32_t value) {
    Board *board = static_cast<Board *>(handle);
    auto &top = *board->top;
    top.s_axil_awaddr = address;
    top.s_axil_wdata = value;
    top.s_axil_wstrb = 15;
    top.s_axil_awvalid = top.s_axil_wvalid = 1;
    board->last_write_cycle = board->cycles + 1;
    board->irq_seen = false;
    board->tick();  // ready is combinational and no response is pending
    top.s_axil_awvalid = top.s_axil_wvalid = 0;
    for (int i = 0; i < kBusTimeout; ++i) {
        const bool valid = top.s_axil_bvalid;
        const int response = top.s_axil_bresp;
        board->tick();
        if (valid) return response;
    }
    return -1;
}

int board_read(void *handle, uint32_t address, uint32_t *value) {
    Board *board = static_cast<Board *>(handle);
    auto &top = *board->top;
    top.s_axil_araddr = address;
    top.s_axil_arvalid = 1;
    board->tick();
    top.s_axil_arvalid = 0;
    for (int i = 0; i < kBusTimeout; ++i) {
        const bool valid = top.s_axil_rvalid;
        *value = top.s_axil_rdata;
        const int response = top.s_axil_rresp;
        board->tick();
        if (valid) return response;
    }
    return -1;
}

void board_send(void *handle, const uint32_t *words, uint64_t count, int last) {
    Board *board = static_cast<Board *>(handle);
    board->send = words;
    board->send_words = count;
    board->sent = 0;
    board->send_last = last != 0;
    board->top->s_axis_tvalid = 0;
}

void board_receive(void *handle, uint32_t *words, uint64_t count) {
    Board *board = static_cast<Board *>(handle);
    board->receive = words;
    board->receive_words = count;
    board->received = 0;
    board->receive_ended = false;
}

void board_stall(void *handle, uint64_t seed, uint32_t send_256, uint32_t receive_256) {
    Board *board = static_cast<Board *>(handle);
    board->random = seed;
    board->send_stall = send_256;
    board->receive_stall = receive_256;
}

// Runs until the interrupt is high, at most max_cycles; returns whether it is.
int board_wait(void *handle, uint64_t max_cycles) {
    Board *board = static_cast<Board *>(handle);
    for (uint64_t i = 0; i < max_cycles && !board->top->irq; ++i) board->tick();
    return board->top->irq;
}

void board_tick(void *handle, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) static_cast<Board *>(handle)->tick();
}

uint64_t board_sent(void *handle) { return static_cast<Board *>(handle)->sent; }
uint64_t board_received(void *handle) { return static_cast<Board *>(handle)->received; }
int board_receive_ended(void *handle) { return static_cast<Board *>(handle)->receive_ended; }
uint64_t board_cycles(void *handle) { return static_cast<Board *>(handle)->cycles; }

// Clock cycles between the latest register write and the interrupt that answered it.
uint64_t board_cycles_to_irq(void *handle) {
    const Board *board = static_cast<Board *>(handle);
    return board->irq_seen ? board->irq_cycle - board->last_write_cycle - 1 : 0;
}

}
