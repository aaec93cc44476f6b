//! Many modern clients on one link to one modern server: whose a message is.
