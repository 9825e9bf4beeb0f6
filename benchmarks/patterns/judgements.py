"""What the most telling patterns of the development episodes are worth, read in the episodes by a person."""

from __future__ import annotations

LESSON, TRIVIAL, TASK_MIX = "lesson", "trivial", "task mix"

JUDGEMENTS: dict[tuple[str, str, str], tuple[str, str]] = {
    ("telecom", "decision", "can_send_mms → $"): (
        TRIVIAL,
        "Nearly the outcome itself: the customer's problem was that pictures could not be sent, the last call "
        "tried it, it worked, the agent stopped. To check before stopping is good advice, but what is seen here "
        "is that there was nothing left to do.",
    ),
    ("telecom", "tool_sequence", "can_send_mms → transfer_to_human_agents"): (
        TRIVIAL,
        "The other side of it: the last try did not work and the agent gave the customer to a person, which these "
        "tasks count as failed. It says that the agent gave up, not why; all 19 are of the hardest of the three "
        "kinds of tasks (pictures).",
    ),
    ("telecom", "decision", "resume_line → $"): (
        LESSON,
        "A true lesson, and of one agent: all ten are of the one that works without a customer to talk to. It paid the "
        "bill, resumed the line and stopped, though the phone had further faults (a locked card, no card, "
        "airplane mode), which other attempts at the same tasks found and mended after the line was back.",
    ),
    (
        "telecom",
        "tool_sequence",
        "get_bills_for_customer → send_payment_request → make_payment → get_details_by_id → resume_line → "
        "check_status_bar",
    ): (
        LESSON,
        "The same lesson from its good side: of those who paid the bill and resumed the line, those who then "
        "looked at the phone succeeded. What tells is the last step; the five before it are in the failures too.",
    ),
    ("telecom", "tool_sequence", "reboot_device → transfer_to_human_agents"): (
        TRIVIAL,
        "Giving up again, after the reboot that is the last remedy of the manual. The outcome in other words.",
    ),
    ("airline", "context", "uses = calculate"): (
        TASK_MIX,
        "An artefact of the tasks: nobody fails because of adding up. It is called where a booking has to be "
        "priced, and these tasks are hard: seven of the eight were tried twice, and each ended alike both times, "
        "whether calculate was called or not.",
    ),
    (
        "airline",
        "tool_sequence",
        "get_reservation_details → search_direct_flight → calculate → update_reservation_flights",
    ): (
        TASK_MIX,
        "Five episodes of four tasks that nobody solved, another way to say that rebooking with a price to work out is "
        "hard. Too few to learn from, and in no other task.",
    ),
    ("telecom", "tool_sequence", "check_status_bar → toggle_airplane_mode"): (
        TASK_MIX,
        "Half a lesson: looking at the phone before acting is right. But it is also how a phone in airplane mode is "
        "found, which is an easy fault, and it is rare in tasks about pictures, of which most fail.",
    ),
    ("telecom", "context", "last tool = run_speed_test"): (
        TRIVIAL,
        "Nearly the outcome: of those whose problem was slow data, the ones whose last call was the test, which then "
        "came out well. To test before stopping is good advice all the same.",
    ),
    ("telecom", "tool_sequence", "check_sim_status → transfer_to_human_agents"): (
        TASK_MIX,
        "Against all others, giving the customer to a person succeeds here: the tasks with a locked card cannot be "
        "solved otherwise, so that is what they ask for. True of these tasks, and wrong of any other.",
    ),
}
"""By domain, kind and text: a word for it, and a sentence or two."""
