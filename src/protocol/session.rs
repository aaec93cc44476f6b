//! What is still unanswered between one client and one server, in both directions.
