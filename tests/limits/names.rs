//! Limits that have no row: those that a test elsewhere reaches, and numbers that are no limits, or none that can be
//! reached by a row.

/// Names, and the test that goes to the limit and over it.
pub const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["--timeout"], "tests/connect.rs::a_server_that_cannot_be_reached_is_explained"),
    (&["--stop-timeout"], "tests/stop.rs::a_signal_ends_us_and_every_kind_of_server"),
    (&["--keep-alive"], "tests/streams.rs::a_reader_that_stopped_is_given_up"),
    (&["--session-idle"], "tests/streamable.rs::a_session_that_nobody_uses_ends"),
    (&["--max-stream-bytes"], "tests/streamable.rs::a_client_that_does_not_read_costs_nobody_else_anything"),
    (&["--replay-bytes"], "tests/streamable.rs::what_is_not_kept_any_more_is_said_to_be_lost"),
    (
        &["--replay-age", "protocol/replay.rs EVENT_BYTES"],
        "src/protocol/replay.rs::whoever_resumes_misses_nothing_or_is_told",
    ),
    (
        &["--max-links", "serve/modern/way.rs SPARE_LINK"],
        "tests/modern.rs::calls_that_may_be_asked_something_have_servers_of_their_own_while_they_are_open",
    ),
    (
        &["--max-inputs", "--input-bytes"],
        "tests/links.rs::what_waits_for_the_input_of_clients_is_bounded_over_all_links",
    ),
    (&["--input-timeout"], "src/protocol/bridge/to_legacy/tests/asking.rs::a_parked_call_expires"),
    (
        &["upstream/bridge/outbox.rs MOST_BYTES"],
        "tests/eras_client.rs::a_client_that_does_not_read_holds_up_the_server_behind_the_bridge",
    ),
    (
        &["upstream/bridge/machine.rs WAITING_BYTES"],
        "src/protocol/bridge/to_legacy/tests.rs::what_waits_is_bounded_and_can_be_cancelled",
    ),
    (&["protocol/message.rs BATCH_MESSAGES"], "src/protocol/message.rs::a_batch_has_a_limit"),
    (&["downstream/place.rs YOUNG"], "src/downstream/place.rs::who_has_only_just_come_or_been_heard_stays"),
    (
        &["downstream/listener.rs LEAVING_AT_ONCE", "downstream/listener.rs SAID_EVERY"],
        "tests/hostile.rs::more_hostile_connections_than_places_lock_nobody_out",
    ),
    (
        &["protocol/share/subscriptions.rs SUBSCRIPTIONS", "protocol/share/subscriptions.rs URI_BYTES"],
        "src/protocol/share/subscriptions.rs::they_are_bounded",
    ),
    (
        &["protocol/bridge/to_modern/subscribe.rs SUBSCRIPTIONS", "protocol/bridge/to_modern/subscribe.rs URI_BYTES"],
        "src/protocol/bridge/to_modern/tests.rs::a_subscription_that_cannot_be_is_refused",
    ),
    (
        &["protocol/bridge/to_legacy/listens.rs SUBSCRIPTIONS", "protocol/bridge/to_legacy/filter.rs URI_BYTES"],
        "src/protocol/bridge/to_legacy/tests/listening.rs::listens_are_bounded",
    ),
    (&["protocol/bridge/to_modern.rs ROUNDS"], "src/protocol/bridge/to_modern/tests.rs::ten_rounds_are_enough"),
    (
        &[
            "protocol/bridge/to_modern/listen.rs STEADY",
            "protocol/bridge/to_modern/listen.rs FIRST_DELAY",
            "protocol/bridge/to_modern/listen.rs MOST_DELAY",
            "protocol/bridge/to_modern/listen.rs ACKNOWLEDGE",
        ],
        "src/protocol/bridge/to_modern/tests.rs::a_listening_that_ends_begins_again_after_a_while",
    ),
    (&["protocol/hub.rs GHOST_ANSWERS"], "src/protocol/share/tests.rs::a_request_that_was_given_up_may_still_ask"),
    (&["protocol/hub.rs LINK_FACTOR"], "src/protocol/share/tests/search.rs::a_long_walk_leaves_nothing_behind"),
    (
        &["protocol/modern/params.rs MOST_BYTES", "protocol/modern/params.rs MOST_TOOLS"],
        "src/protocol/modern/params/tests.rs::what_is_remembered_is_bounded",
    ),
    (
        &["protocol/reconnect.rs WAITING_BYTES", "protocol/reconnect.rs WAITING_MESSAGES"],
        "src/protocol/reconnect/tests.rs::what_waits_is_bounded",
    ),
    (
        &["protocol/remote.rs RESUMES"],
        "src/protocol/remote.rs::a_broken_stream_is_asked_for_a_few_times_in_vain_and_as_often_as_it_brings_something",
    ),
    (&["protocol/http/rules.rs PREFIX_BYTES"], "src/protocol/http/rules.rs::the_prefix_under_which_we_were_reached"),
    (
        &["upstream/answer.rs LINE_BYTES"],
        "src/upstream/answer.rs::chunks_that_two_readers_could_understand_differently_are_refused",
    ),
    (
        &["protocol/chunks.rs DIGITS", "protocol/chunks.rs TRAILER_BYTES"],
        "src/protocol/chunks.rs::what_a_body_is_however_it_is_cut",
    ),
    (
        &[
            "upstream/child/calm.rs LEAST_WANTED",
            "upstream/child/calm.rs MOST_WANTED",
            "upstream/child/calm.rs WORTH_READS",
            "upstream/child/output.rs WORTH_ANSWERS",
        ],
        "src/upstream/child/calm.rs::what_was_not_worth_it_is_tried_later_each_time",
    ),
    (
        &["connect/relay/quiet.rs REQUESTS"],
        "src/connect/relay/quiet.rs::it_is_likely_after_a_while_and_looked_at_now_and_then",
    ),
    (&["upstream/child/lender.rs LOOKS"], "src/upstream/child/loan.rs::who_hears_for_long_without_an_answer_is_seen"),
    (&["protocol/walk.rs DEEPEST"], "src/protocol/walk.rs::what_is_deep_is_not_looked_at"),
    (
        &["protocol/modern/headers.rs QUOTED"],
        "src/protocol/modern/headers/tests.rs::long_values_are_not_repeated_whole",
    ),
    (&["demo.rs LINE_BYTES"], "src/demo/tests.rs::a_line_that_is_too_long_is_refused"),
    (&["demo.rs MOST_COUNTS"], "src/demo/tests.rs::only_so_many_counts_run_at_once"),
    (
        &["demo/tools.rs LONGEST_PAUSE_MS", "demo/tools.rs MOST_NUMBERS", "demo/tools.rs USUAL_PAUSE_MS"],
        "src/demo/tools.rs::wrong_arguments_are_named",
    ),
    (&["log/json.rs LEAST_BYTES"], "src/log/json.rs::what_is_too_long_goes_on"),
    (&["log.rs PATIENCE", "log.rs READY_BYTES"], "tests/stderr.rs::serve_goes_on_and_stops"),
    (&["connect.rs LAST_ANSWERS", "connect.rs STOP"], "tests/end_of_input.rs::a_call_under_way_does_not_hold_us_up"),
    (
        &["upstream/streamable.rs FAREWELL", "upstream/streamable.rs LINGER"],
        "tests/end_of_input.rs::a_black_hole_does_not_hold_us_up",
    ),
    (
        &["upstream/child/output.rs KILL_TIMEOUT", "serve.rs KILL_TIMEOUT"],
        "tests/stop.rs::many_rude_servers_take_no_longer_than_one",
    ),
    (
        &["system/memory.rs ROOM_BYTES", "system/memory.rs THREAD_BYTES", "upstream/child.rs START_BYTES"],
        "tests/memory.rs::connections_take_all_memory",
    ),
    (&["system/memory.rs COPIES"], "tests/memory.rs::long_messages_take_all_memory"),
    (
        &["system/memory.rs RESERVE_BYTES"],
        "src/system/memory.rs::the_reserve_is_given_up_for_what_finds_no_memory_and_kept_again",
    ),
    (&["system/memory.rs PATIENCE"], "src/system/memory.rs::what_finds_no_memory_for_long_fails"),
    (&["downstream/stream/keep.rs END_TIMEOUT"], "tests/stop.rs::a_client_that_does_not_read_does_not_hold_us_up"),
    (&["serve/modern/era.rs PROBE"], "tests/links/anew.rs::a_server_that_tells_late_what_it_speaks_is_believed_then"),
    (&["upstream/crew.rs WAITING_MESSAGES"], "src/upstream/crew.rs::what_waits_is_bounded"),
    (&["upstream/crew.rs SPARE", "upstream/crew.rs IDLE"], "tests/streamable_link.rs::no_thread_is_left"),
];

/// Names, and why they have no row.
pub const REASONS: &[(&[&str], &str)] = &[
    (&["cli/help.rs INDENT", "cli/help.rs WIDTH"], "the form of --help"),
    (
        &[
            "system/sandbox.rs BIND_TCP",
            "system/sandbox.rs CONTROL_DEVICE",
            "system/sandbox.rs EXECUTE",
            "system/sandbox.rs FILES",
            "system/sandbox.rs MOVE",
            "system/sandbox.rs READ_FILE",
            "system/sandbox.rs READ_FOLDER",
            "system/sandbox.rs REMOVE_FILE",
            "system/sandbox.rs SCOPED",
            "system/sandbox.rs TRUNCATE",
            "restrict.rs WHOLE_LANDLOCK",
        ],
        "bits and a version of the kernel's",
    ),
    (
        &[
            "upstream/child/output.rs END",
            "upstream/child/output.rs STDERR",
            "upstream/child/output.rs STDIN",
            "upstream/child/output.rs STDOUT",
            "upstream/child/output.rs WOKEN",
            "protocol/share/subscriptions.rs ACCEPTED",
            "protocol/walk.rs HIGH",
            "protocol/walk.rs ONES",
        ],
        "names of values",
    ),
    (
        &[
            "downstream/stdio.rs CHUNK_BYTES",
            "downstream/stdio.rs GATHERED_BYTES",
            "protocol/backlog.rs SMALL",
            "protocol/sse.rs SHORT_BYTES",
            "upstream/agent.rs JOINED_BYTES",
            "upstream/known.rs KEPT_BYTES",
            "upstream/known.rs MISSES",
            "upstream/exchange.rs DRAINED_BYTES",
            "upstream/socket.rs CHUNK_BYTES",
            "upstream/socket.rs HELD_BYTES",
            "upstream/sse.rs CHUNK_BYTES",
            "upstream/sse.rs DRAINED_BYTES",
            "upstream/streamable/post.rs SHORT_BYTES",
            "upstream/streamable/stream.rs CHUNK_BYTES",
            "upstream/child/output.rs MOST_IN_A_PIPE",
            "upstream/child/output.rs STDERR_READ_BYTES",
            "upstream/child/lender.rs STACK_BYTES",
            "downstream/listener.rs STACK_BYTES",
            "downstream/stream/keep.rs STACK_BYTES",
            "serve.rs STACK_BYTES",
            "system/minder.rs STACK_BYTES",
            "system/memory.rs STACK_BYTES",
            "system/memory.rs SMALL_BYTES",
            "system/memory.rs PAUSE",
        ],
        "the size of a step or of a buffer: what is longer takes another step",
    ),
    (
        &[
            "connect/relay.rs RETRY",
            "protocol/reconnect.rs PAUSE",
            "protocol/remote.rs LONGEST_RETRY",
            "protocol/remote.rs RETRY",
            "protocol/retry.rs LEAST",
            "serve/offer.rs LONGEST_RETRY",
            "serve/offer.rs RETRY",
            "serve/offer.rs SETTLED",
            "serve/session.rs RESUME_AFTER",
            "upstream/streamable/listen.rs RETRY",
            "upstream/oauth.rs EARLY",
        ],
        "how soon something is tried again; tables of delays test it",
    ),
    (
        &[
            "downstream/listener.rs REST",
            "downstream/stream/keep.rs LOOK_AGAIN",
            "protocol/bridge/to_legacy.rs GATHER",
            "serve.rs LOOK",
            "serve/modern/way.rs LOOK",
            "serve.rs SHORTEST_LOOK",
            "upstream/child/output.rs ASK_INTERVAL",
            "upstream/child/lender.rs LOOK_EVERY",
            "upstream/streamable/listen.rs STREAM_PATIENCE",
            "upstream/waits.rs LONG",
            "upstream/waits.rs SHORT",
            "upstream/waits.rs TICK",
            "upstream/dial.rs KEEP_ALIVE",
        ],
        "how often something is looked at",
    ),
    (
        &[
            "config.rs NAMED_KEYS",
            "protocol/bridge/to_modern/greeting.rs SHOWN",
            "upstream/child/stdout.rs SHOWN_BYTES",
            "upstream/child/stdout.rs LOGGED_LINES",
        ],
        "how much of something is shown; nothing is refused",
    ),
    (
        &[
            "protocol/head/known.rs MOST_DIGITS",
            "protocol/modern/params/value.rs DIGITS",
            "protocol/modern/params/annotations.rs DEEPEST",
        ],
        "what is over it takes the slower way, or is no number that anybody means",
    ),
    (
        &[
            "connect/relay/from_client.rs FOLLOWERS",
            "connect/relay/from_client.rs SPARE",
            "upstream/pool.rs IDLE",
            "upstream/pool.rs IDLE_CONNECTIONS",
        ],
        "threads and connections that are kept for the next request: without one a new one is begun",
    ),
    (
        &["downstream/http.rs LINGER", "downstream/listener.rs END_TIMEOUT", "downstream/listener.rs LEAVE_TOGETHER"],
        "how long we still listen to whom we have refused, and make room; seen by nobody but as an end",
    ),
    (&["downstream/stdio.rs CLIENT_LINE_BYTES"], "only the log says so: what the official clients refuse"),
    (&["protocol/message.rs SHORT", "serve/by_id.rs ODD"], "how something is kept, not how much"),
    (&["system/descriptors.rs MOST_DESCRIPTORS"], "what we ask of the system; it has the last word"),
    (&["system/descriptors.rs MOST"], "whoever starts us chooses it, not a client"),
    (
        &["serve/modern.rs PATIENCE", "serve/modern/era.rs ASK_AGAIN", "upstream/oauth.rs LONGEST"],
        "10 s and more of waiting, which no option shortens: too long for a test that runs at each change; that they end \
         is not tested",
    ),
    (
        &["serve/session.rs TIMES", "upstream/http.rs WARNINGS", "upstream/dial.rs ADDRESSES"],
        "what is over it is forgotten: a latency that is not counted, a warning that is not remembered as said, a ninth \
         address of a host",
    ),
];
