"""Seeds bugs into the RTL and checks that the tests catch them.

    python fpga/mutate.py [--only NAME ...] [--json FILE]

Each mutant is one wrong expression of the kind that is easy to write.  It is built small (which keeps the build short)
and must be caught by one of three checks: a wrong prediction, logit or count on random nets; a wrong answer to a
broken packet; or cycles other than the model's.  Acceptance: at least 95 % are caught.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from fpga.mutant_checks import find_difference  # noqa: E402

from bnnchain_fpga.simulator import ROOM, build_simulator, list_sources  # noqa: E402

SMALL = {"LANES": 3, "FILTERS": 4, "WORD": 16, "WEIGHT_DEPTH": 512, "ACT_DEPTH": 1024, "GROUP_DEPTH": 64, "CLASSES": 32}
"""Three lanes: not a power of two, so that lane counters are tested too."""
MIN_CAUGHT = 0.95


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong expression: ``old`` occurs exactly once in ``file``."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant("ties go to the highest class", "class_unit.sv", "$signed(logits[lane]) > $signed(best[lane])",
           "$signed(logits[lane]) >= $signed(best[lane])"),
    Mutant("logits compared unsigned", "class_unit.sv", "$signed(logits[lane]) > $signed(best[lane])",
           "logits[lane] > best[lane]"),
    Mutant("argmax keeps the batch before", "class_unit.sv", "logit_first || $signed", "$signed"),
    Mutant("logit is P", "class_unit.sv", "{add_matches[lane], 1'b0}", "add_matches[lane]"),
    Mutant("logit without K", "class_unit.sv", "bias_q - overlay_pkg::LOGIT_BITS'(fan_in)", "bias_q"),
    Mutant("logit with K - 1", "class_unit.sv", "overlay_pkg::LOGIT_BITS'(fan_in);",
           "(overlay_pkg::LOGIT_BITS'(fan_in) - 1'b1);"),
    Mutant("one class too few", "class_unit.sv", "class_index == classes_left;", "class_index + 1'b1 == classes_left;"),
    Mutant("tail lanes counted", "class_unit.sv", "LANE_COUNT_BITS'(lane) < batch_lanes && ", ""),
    Mutant("labels of the wrong lane", "class_unit.sv", "predictions[lane] == labels_q[lane]",
           "predictions[lane] == labels_q[0]"),
    Mutant("threshold > instead of >=", "pe_array.sv", "~sum[overlay_pkg::ACC_BITS-1]",
           "(~sum[overlay_pkg::ACC_BITS-1] & |sum)"),
    Mutant("xor instead of xnor", "xnor_popcount.sv", "act ~^ weight", "act ^ weight"),
    Mutant("last bit of a word lost", "xnor_popcount.sv", "act ~^ weight", "(act ~^ weight) << 1 >> 1"),
    Mutant("carry of six lost", "xnor_popcount.sv", "(carry & (low[1] | high[1]))", "1'b0"),
    Mutant("accumulator never restarts", "processing_element.sv", "first ? start : acc", "acc"),
    Mutant("start value ignored", "processing_element.sv", "first ? start : acc", "first ? '0 : acc"),
    Mutant("pool by AND", "activation_packer.sv", "bits : pooled_q | bits", "bits : pooled_q & bits"),
    Mutant("pool keeps the quad before", "activation_packer.sv", "step.quad_first ? bits : pooled_q | bits",
           "pooled_q | bits"),
    Mutant("pool takes the last position", "activation_packer.sv", "step.quad_first ? bits : pooled_q | bits", "bits"),
    Mutant("stale half-word", "activation_packer.sv",
           "else if (slot == '0) store_data[lane][FILTERS*i+:FILTERS] <= '0;", ""),
    Mutant("half-word not stored at the last group", "activation_packer.sv", "step.group_last || slot", "slot"),
    Mutant("slots not reset by a layer", "activation_packer.sv", "slot <= full ? '0",
           "slot <= slot == SLOT_BITS'(SLOTS - 1) ? '0"),
    Mutant("output base ignored", "activation_packer.sv", "pointer <= out_base;", "pointer <= '0;"),
    Mutant("K - 1 words", "layer_walker.sv", "run_left == 1 & tap_end;", "run_left == 2 & tap_end;"),
    Mutant("two tap rows", "layer_walker.sv", "tap_row == 2'd1 & ~tap_end", "tap_row == 2'd0 & ~tap_end"),
    Mutant("tap rows one word off", "layer_walker.sv", "layer.line_words - layer.run_left",
           "layer.line_words - layer.run_left - 1'b1"),
    Mutant("quad in the wrong order", "layer_walker.sv", "quad == 2'd1 ? pool_back", "quad == 2'd2 ? pool_back"),
    Mutant("pooled columns overlap", "layer_walker.sv", "layer.pool ? layer.pixel_words << 1 : layer.pixel_words",
           "layer.pixel_words"),
    Mutant("pooled lines overlap", "layer_walker.sv", "layer.pool ? layer.line_words << 1 : layer.line_words",
           "layer.line_words"),
    Mutant("weights not rewound in a quad", "layer_walker.sv", "word_end & ~quad_end ? weight_row : pixel_end",
           "pixel_end"),
    Mutant("thresholds of the first group only", "layer_walker.sv", "group_end ? layer.threshold_base : group + 1'b1",
           "layer.threshold_base"),
    Mutant("band loaded too early", "layer_walker.sv", "layer.rows & ~band_end & ~prefetched;", "1'b0;"),
    Mutant("band step of one when pooling", "layer_walker.sv", "layer.pool ? 2'd2 : 2'd1", "2'd1"),
    Mutant("logits overwritten before they are read", "layer_walker.sv", "if (group_read) state", "state"),
    Mutant("window shifts by one when pooling", "window_lane.sv", "step.pool ? band[row] >> 2 : band[row] >> 1",
           "band[row] >> 1"),
    Mutant("window rows swapped", "window_lane.sv", "2'd2: window[3*ky+kx] = band[ky+1][kx];",
           "2'd2: window[3*ky+kx] = band[ky][kx+1];"),
    Mutant("window leaks into padding", "window_lane.sv", "WORD'(window)", "{data[WORD-1:9], window}"),
    Mutant("prefetch into the wrong row", "window_lane.sv", "step.prefetch_row == 2'(row)",
           "step.prefetch_row == 2'(row) + 2'd1"),
    Mutant("second buffer not used", "batch_sequencer.sv", "bank ? input_words : '0;", "'0;"),
    Mutant("buffer freed at the batch's start", "batch_sequencer.sv", "free[bank] = batch_start;",
           "free[bank] = layer_start & index == '0;"),
    Mutant("layer ends before its pipeline", "batch_sequencer.sv", "& ~walker_busy & ~active;", "& ~walker_busy;"),
    Mutant("layer cycles one short", "batch_sequencer.sv", "(layer_done | waiting) cycles <= 32'd1",
           "(layer_done | waiting) cycles <= 32'd0"),
    Mutant("loader ignores the array's writes", "image_loader.sv", "& ~full[bank] & ~may_store;", "& ~full[bank];"),
    Mutant("loader overwrites a full buffer", "image_loader.sv", "active & ~full[bank] & ~may_store;",
           "active & ~may_store;"),
    Mutant("labels unchecked", "image_loader.sv", "label_q & ~label_ok ?", "1'b0 ?"),
    Mutant("late TLAST unseen", "image_loader.sv", "run_end & ~s_axis_tlast;", "1'b0;"),
    Mutant("early TLAST unseen", "image_loader.sv", "take & s_axis_tlast & ~run_end;", "1'b0;"),
    Mutant("model CRC unchecked", "model_loader.sv", "else if (~crc_ok) fail", "else if (1'b0) fail"),
    Mutant("descriptor CRC unchecked", "descriptor_decoder.sv", "~crc_ok ?", "1'b0 ?"),
    Mutant("chain unchecked", "descriptor_decoder.sv", "bad_chain | bad_next", "bad_next"),
    Mutant("overlap unchecked", "descriptor_decoder.sv", "| low_out | overlap)", "| low_out)"),
    Mutant("input buffers unprotected", "descriptor_decoder.sv", "| low_out | overlap)", "| overlap)"),
    Mutant("weight range unchecked", "descriptor_decoder.sv", "over_weights | over_weight_end", "1'b0"),
    Mutant("fan-in unchecked", "descriptor_decoder.sv", ": bad_fan_in ?", ": 1'b0 ?"),
    Mutant("count shown while running", "run_control.sv", "done ? sum : '0", "sum"),
    Mutant("count not cleared by a start", "run_control.sv",
           "sum         <= '0;\n      images_done <= '0;\n      cycles      <= '0;\n    end\n    if (loading",
           "images_done <= '0;\n      cycles      <= '0;\n    end\n    if (loading"),
    Mutant("watchdog never barks", "run_control.sv", "patience == '0 & ~progress_q & watching", "1'b0"),
    Mutant("start while busy ignored", "run_control.sv", "if (busy & request) cause", "if (1'b0) cause"),
    Mutant("error leaves the datapath running", "run_control.sv", "reset_request | reset_q;", "reset_request;"),
    Mutant("results of the wrong bank", "result_stream.sv", "mem[{drain_bank, class_index[BITS-2:0]}]",
           "mem[{fill_bank, class_index[BITS-2:0]}]"),
    Mutant("no back-pressure on results", "result_stream.sv", "assign room = ~full[fill_bank];", "assign room = 1'b1;"),
    Mutant("TLAST of every batch", "result_stream.sv", "release_bank & final_q[drain_bank]", "release_bank"),
)  # fmt: skip


def build_mutant(mutant: Mutant, directory: Path) -> Path:
    """Return the simulator of the RTL with one change; raises ``ValueError`` where the change does not apply once."""
    sources = []
    for source in list_sources():
        text = source.read_text()
        if source.name == mutant.file:
            if text.count(mutant.old) != 1:
                message = f"{mutant.name}: {mutant.old!r} occurs {text.count(mutant.old)} times in {mutant.file}"
                raise ValueError(message)
            text = text.replace(mutant.old, mutant.new)
        target = directory / source.name
        target.write_text(text)
        sources.append(target)
    return build_simulator(SMALL, sources=sources, optimize="-O0")


def main() -> None:
    """Try every mutant; fail where too few are caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of mutants")
    parser.add_argument("--json", type=Path, default=ROOM / "build" / "mutants.json")
    arguments = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not arguments.only or mutant.name in arguments.only]
    sound = find_difference(build_simulator(SMALL))
    if sound is not None:
        sys.exit(f"the RTL without a bug fails: {sound}")
    results: dict[str, str | None] = {}
    for mutant in chosen:
        with tempfile.TemporaryDirectory() as directory:
            library = build_mutant(mutant, Path(directory))
        results[mutant.name] = find_difference(library)
        library.unlink()
        library.parent.rmdir()
        sys.stdout.write(f"{'caught' if results[mutant.name] else 'MISSED'}: {mutant.name}: {results[mutant.name]}\n")
        sys.stdout.flush()
    caught = sum(found is not None for found in results.values())
    arguments.json.write_text(json.dumps({"mutants": len(results), "caught": caught, "by": results}, indent=2) + "\n")
    sys.stdout.write(f"{caught} of {len(results)} seeded bugs caught\n")
    if caught < MIN_CAUGHT * len(results):
        sys.exit(1)


if __name__ == "__main__":
    main()
