"""What the most telling patterns of the development episodes are worth, read in the episodes by a person."""

from __future__ import annotations

LESSON, TRIVIAL, TASK_MIX = "lesson", "trivial", "task mix"

JUDGEMENTS: dict[tuple[str, str, str], tuple[str, str]] = {
    ("telecom", "decision", "can_send_mms → $"): (
        TRIVIAL,
        "Nearly the outcome itself: the customer could not send pictures, the last call tried it, it "
        "worked, the agent stopped. To try before stopping is good advice, but what is seen here is that "
        "nothing was left to do.",
    ),
    ("telecom", "tool_sequence", "can_send_mms → transfer_to_human_agents"): (
        TRIVIAL,
        "The other side of it: the last try failed and the agent gave the customer to a person, which is "
        "no success in these tasks. It says that the agent gave up, not why. All are of the hardest of "
        "the three kinds of tasks, pictures.",
    ),
    ("telecom", "decision", "resume_line → $"): (
        LESSON,
        "A true lesson, though of one agent: all ten are of the one that works without a customer to talk "
        "to. It paid the bill, resumed the line and stopped, while the phone had further faults. Of the "
        "other attempts at these ten tasks, which went on to look at the phone, nine succeeded.",
    ),
    (
        "telecom",
        "tool_sequence",
        "get_bills_for_customer → send_payment_request → make_payment → get_details_by_id → resume_line → "
        "check_status_bar",
    ): (
        LESSON,
        "The same lesson from its good side: of 14 who looked at the phone after they had resumed the "
        "line 13 succeeded, of 11 who did not none. What tells is the last step; the five before it are "
        "in the failures too, and are there because the longest sequence is kept.",
    ),
    ("telecom", "tool_sequence", "reboot_device → transfer_to_human_agents"): (
        TRIVIAL,
        "Giving up again, after the last remedy of the manual: 15 of 16 are tasks about pictures and slow "
        "data that were not solved. The outcome in other words.",
    ),
    ("airline", "context", "uses = calculate"): (
        TASK_MIX,
        "An artefact of the tasks: nobody fails because of adding up. It is called where a booking has to "
        "be priced, and such tasks are hard. Seven of the eight were tried twice, and each ended alike "
        "both times, whether calculate was called or not.",
    ),
    (
        "airline",
        "tool_sequence",
        "get_reservation_details → search_direct_flight → calculate → update_reservation_flights",
    ): (
        TASK_MIX,
        "Part of the one before: five episodes of four tasks that nobody ever solved. Too few to learn from.",
    ),
    ("telecom", "tool_sequence", "check_status_bar → toggle_airplane_mode"): (
        TASK_MIX,
        "Half a lesson. To look at the phone before acting is right, and in tasks about service it pays "
        "(12 of 13 against 5 of 17). But in those about pictures it changes nothing (3 of 9 against 7 of "
        "23), and these are rare among those that have it: much of the difference is which tasks they are.",
    ),
    ("telecom", "context", "last tool = run_speed_test"): (
        TRIVIAL,
        "Nearly the outcome: all are tasks about slow data in which the last call was the test, which "
        "came out well in 11 of 12. To test before stopping is good advice all the same.",
    ),
    ("telecom", "tool_sequence", "check_sim_status → transfer_to_human_agents"): (
        LESSON,
        "A true rule, and only of its situation: a locked card cannot be mended by phone, so the customer "
        "has to be given to a person. Of the tasks with one, 14 of 14 that ended so succeeded and none of "
        "8 that did not. The one episode without a locked card failed.",
    ),
}
"""By domain, kind and text: a word for it, and a sentence or two."""
