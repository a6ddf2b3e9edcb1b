"""What memspan promises when something goes wrong, and the tests that prove it.

A promise without a test is a wish. This file checks that each named test is there and runs (not skipped whatever the
machine); the tests themselves say what holds. Promises of a server (keys, bodies, queues, sessions) are left out: there is
no server.
"""

import ast
from functools import cache

import pytest

from tests.paths import ROOT

PROMISES: dict[str, list[str]] = {
    "A process that is killed while it saves leaves the last acknowledged state or the one after it, never a mix": [
        "memory/store/test_durability.py::test_a_crash_at_every_call_leaves_the_state_before_or_after",
        "memory/store/test_durability.py::test_a_power_cut_after_every_call_leaves_the_state_before_or_after",
        "memory/store/test_durability.py::test_twelve_kills_lose_nothing",
        "memory/store/test_durability.py::test_the_kill_test_would_see_a_loss",
    ],
    "A monitor that is killed at any moment loses no text and doubles none, and an alert stays due until it has arrived": [
        "apps/monitor/test_ingest.py::test_ten_kills_lose_and_double_nothing",
        "apps/monitor/test_ingest.py::test_alerts_do_not_depend_on_where_a_stream_is_cut",
        "apps/monitor/test_delivery.py::test_an_alert_that_does_not_arrive_is_sent_by_the_next_run",
        "apps/monitor/test_delivery.py::test_a_file_holds_each_alert_once_in_a_line",
    ],
    "A training that is killed goes on as if nothing had happened, and a checkpoint is always whole": [
        "training/test_loop.py::test_a_killed_run_goes_on_exactly",
        "training/test_loop.py::test_a_stopped_run_goes_on_exactly",
        "training/test_loop.py::test_a_checkpoint_that_was_just_being_replaced",
        "models/test_folders.py::test_a_folder_that_was_not_written_to_its_end_leaves_the_old_one",
    ],
    "A full or read-only disk, or a failing one, leaves the old state; the error names the path; a retry works": [
        "memory/store/test_failing_calls.py::test_every_call_may_fail_once",
        "memory/store/test_failing_calls.py::test_a_disk_may_stay_broken_for_a_while",
        "memory/store/test_failing_calls.py::test_a_full_disk",
        "memory/store/test_failing_calls.py::test_a_file_that_the_system_does_not_let_grow",
        "memory/store/test_failing_calls.py::test_a_read_only_disk",
        "cli/test_read.py::test_a_full_disk",
        "training/test_loop.py::test_a_disk_that_does_not_take_it",
    ],
    "A changed, cut or foreign file is found before it is used": [
        "memory/store/test_damage.py::test_no_byte_can_flip_unseen",
        "memory/store/test_damage.py::test_files_cut_short_or_grown",
        "memory/store/test_damage.py::test_swapped_and_missing_parts",
        "memory/store/test_damage.py::test_a_flip_in_the_word_index_changes_no_search",
        "models/test_folders.py::test_every_flip_and_cut_of_every_file_is_refused",
        "models/test_folders.py::test_who_opens_a_model_or_resumes_a_run_sees_it",
        "pretrained/test_hub.py::test_every_change_of_every_file_is_refused",
        "pretrained/test_hub.py::test_calibrated_heads_are_checked_too",
        "test_flips.py::test_what_a_damage_comes_to",
    ],
    "An answer to which a guard objects, or whose guard fails, is neither shown nor kept": [
        "cli/test_review.py::test_from_a_withheld_answer_to_a_correction_that_is_found",
        "cli/test_review.py::test_a_guard_of_the_users_own_in_a_file",
        "cli/test_review.py::test_a_withheld_reply_of_a_chat_is_neither_shown_nor_kept",
    ],
    "An audit log that was altered is found out; it holds no text, and what was forgotten is not readable in it": [
        "cli/test_audit.py::test_an_altered_log_is_told",
        "cli/test_audit.py::test_everything_done_with_a_memory_is_logged_without_its_text",
        "cli/test_audit.py::test_what_cannot_be_logged_is_not_done",
    ],
    "What is older than the rules of a memory is forgotten, and forged rules forget nothing": [
        "cli/test_retain.py::test_a_rule_is_shown_kept_applied_and_removed",
        "cli/test_retain.py::test_forged_rules_forget_nothing",
    ],
    "A hostile file ends in a sentence, in bounded time and memory": [
        "memory/store/test_damage.py::test_manifests_that_are_none",
        "memory/store/test_damage.py::test_things_that_are_no_files_are_refused_at_once",
        "memory/store/test_damage.py::test_forged_parts_are_refused_in_bounded_time_and_memory",
        "memory/test_hostile.py::test_a_hostile_folder_ends_in_a_typed_error_or_in_its_contents",
        "training/test_hostile.py::test_a_run_is_not_taken_up",
        "training/test_hostile.py::test_a_model_is_refused",
        "pretrained/test_hostile.py::test_a_hostile_folder_is_refused_in_a_sentence",
        "data/formats/test_formats.py::test_whatever_is_wrong_within_a_document_it_is_read_or_refused",
        "data/formats/test_formats.py::test_what_unpacks_to_far_too_much_is_refused",
        "data/formats/test_text.py::test_a_line_without_end_is_refused_in_bounded_memory",
        "test_hostile.py::test_a_hostile_folder_keeps_the_bounds",
        "fuzz/test_fuzz.py::test_every_input_is_used_or_refused",
    ],
    "Nothing outside a memory's folder is read, changed or deleted through it": [
        "memory/store/test_links.py::test_no_operation_goes_through_a_link",
        "memory/store/test_links.py::test_only_names_that_memspan_gives_are_deleted",
        "models/test_folders.py::test_a_recorded_name_stays_in_its_folder",
    ],
    "Files that a dead process left are removed, those of a living one are not": [
        "memory/store/test_processes.py::test_leftovers_of_the_dead_are_taken_away_and_others_files_are_not",
        "memory/store/test_processes.py::test_a_writer_at_work_keeps_its_files",
    ],
    "Processes and threads that use one memory at a time take turns, and a reader sees whole states": [
        "memory/store/test_processes.py::test_eight_processes_write_one_history",
        "memory/store/test_processes.py::test_a_reader_beside_a_writer_always_sees_a_whole_state",
        "memory/store/test_lock.py::test_nobody_starves_on_a_busy_machine",
        "memory/test_views.py::test_threads_that_search_change_and_forget",
        "assistant/test_threads.py::test_a_search_sees_the_memory_as_it_was_when_it_began",
    ],
    "A memory of another model, tokenizer, dtype, choice of heads or format is refused with the way out": [
        "memory/test_foreign.py::test_a_memory_of_another_model_is_refused",
        "memory/test_foreign.py::test_every_field_but_the_name_is_compared",
        "memory/test_foreign.py::test_another_format_version_is_refused",
        "assistant/test_language_model.py::test_a_memory_of_another_model_is_refused",
    ],
    "With a memory that evicts nothing a model computes what it computes without": [
        "pretrained/test_parity.py::test_whole_and_in_chunks",
        "pretrained/test_parity.py::test_the_self_test_sees_a_model_that_breaks",
        "assistant/test_language_model.py::test_a_model_that_fails_the_self_test_is_refused",
    ],
    "What a long text costs a token does not grow": [
        "mechanisms/test_contract.py::test_a_bounded_state_stops_growing",
        "memory/test_bookkeeping.py::test_what_appends_touch_grows_with_their_number_and_not_with_its_square",
        "memory/store/test_processes.py::test_memory_stays_small_while_large_parts_are_joined",
    ],
    "NaN and infinity are never stored; the turn fails": [
        "memory/test_append.py::test_numbers_that_are_not_finite_are_never_kept",
        "memory/index/test_encoder.py::test_numbers_that_are_not_finite_are_never_kept",
        "memory/index/test_head_scores.py::test_keys_that_are_not_finite_are_refused",
        "assistant/test_chat.py::test_a_turn_that_fails_leaves_nothing",
        "training/test_loop.py::test_a_loss_that_is_no_number_stops_the_run",
    ],
    "What is forgotten is gone from files, index and answers, also after a crash": [
        "memory/test_forget.py::test_forgotten_is_gone_from_every_file_and_index",
        "memory/test_forget.py::test_a_stored_index_is_gone_when_forget_returns",
        "memory/test_forget.py::test_a_crash_at_every_call_and_the_same_again_leave_nothing",
        "memory/test_forget.py::test_no_handle_keeps_forgotten_bytes_after_a_refresh",
        "assistant/test_forgotten.py::test_no_answer_and_no_prompt_holds_what_was_forgotten",
    ],
    "No memory appears in the answers of another": [
        "memory/test_views.py::test_64_memories_in_turn_do_not_see_each_other",
        "pretrained/test_bounded_memory.py::test_interleaved_requests_get_their_own_answers",
        "pretrained/test_bounded_memory.py::test_two_threads_get_their_own_answers",
        "assistant/test_forgotten.py::test_two_memories_of_one_model_answer_from_their_own_texts",
    ],
    "No file is executed: no pickle, no shell, no import by a file's word; a model's code runs by a flag only": [
        "test_never.py::test_no_file_does_it",
        "test_never.py::test_each_rule_finds_what_it_is_for",
        "pretrained/test_hostile.py::test_code_is_answered_with_the_flag_that_allows_it",
        "pretrained/test_hostile.py::test_every_call_that_reads_a_model_says_what_it_trusts",
        "training/test_loop.py::test_a_form_names_no_class",
    ],
    "What a document says is data: it holds no control tokens and stands in no system message": [
        "data/test_plain_text.py::test_contents_add_no_control_tokens_to_a_conversation",
        "data/test_plain_text.py::test_no_other_file_tokenizes_contents",
        "assistant/test_language_model.py::test_what_is_recalled_is_quoted_in_the_users_message",
        "assistant/test_chat.py::test_documents_are_recalled_as_quoted_data",
        "assistant/test_prompts.py::test_a_document_cannot_leave_its_quotation",
        "cli/test_ask.py::test_what_a_document_says_cannot_steer_the_terminal",
    ],
    "A process that stays for further questions is reached by its user alone, takes questions only, and keeps no memory open": [
        "cli/test_warm.py::test_the_folder_of_sockets_is_the_users_alone",
        "cli/test_warm.py::test_a_process_of_another_user_is_refused",
        "cli/test_warm.py::test_only_questions_are_taken",
        "cli/test_warm.py::test_what_is_no_message_is_refused",
        "cli/test_warm.py::test_a_memory_is_opened_for_each_question_and_closed_after_it",
    ],
    "One passage that draws all attention does not win by that alone": [
        "memory/index/test_fusion.py::test_no_ranker_outweighs_the_others_without_limit",
        "assistant/test_poison.py::test_the_right_passage_stays_in_the_prompt",
    ],
}
TESTS = sorted({test for tests in PROMISES.values() for test in tests})


@cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    """The test functions of a file of the suite, by name; none if there is no such file."""
    path = ROOT / "tests" / file
    tree = ast.parse(path.read_text("utf-8") if path.is_file() else "")
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def always_skipped(function: ast.FunctionDef) -> bool:
    """Whether a decorator or the first statement skips it, whatever the machine."""
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    body = [line for line in function.body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
    first = ast.unparse(body[0]) if body else "pass"
    marked = any(decorator.startswith(("pytest.mark.skip(", "pytest.mark.xfail")) for decorator in decorators)
    return (
        marked or "pytest.mark.skip" in decorators or first.startswith(("pytest.skip(", "pytest.xfail(", "pass", "..."))
    )


@pytest.mark.parametrize("test", TESTS)
def test_a_promise_is_proved(test: str) -> None:
    file, _, name = test.partition("::")
    assert name in functions(file), f"no test {name} in tests/{file}: name the one that proves the promise now"
    assert not always_skipped(functions(file)[name]), f"{test} never runs"


def test_every_promise_has_a_test_that_is_not_slow() -> None:
    for promise, tests in PROMISES.items():
        marks = [
            ast.unparse(node)
            for test in tests
            for node in functions(test.split("::")[0])[test.split("::")[1]].decorator_list
        ]
        assert tests, promise
        assert len(tests) > marks.count("pytest.mark.slow"), promise


@pytest.mark.parametrize(
    ("source", "skipped"),
    [
        ("@pytest.mark.skip\ndef test(): assert f()", True),
        ("@pytest.mark.skip(reason='later')\ndef test(): assert f()", True),
        ("def test():\n    'A sentence.'\n    pytest.skip('later')", True),
        ("def test(): pass", True),
        ("@pytest.mark.skipif(windows, reason='no pipes')\ndef test(): assert f()", False),
        ("@pytest.mark.slow\ndef test(): assert f()", False),
    ],
)
def test_a_test_that_never_runs_is_seen(source: str, skipped: bool) -> None:
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert always_skipped(function) is skipped
