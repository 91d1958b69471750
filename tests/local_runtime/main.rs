//! The local runtime with real processes, under the real supervisor, in the real sandbox.
//!
//! What the sandbox keeps commands from is really tried, by programs that run in it. A kernel that does not grant all of
//! it fails `levels::this_kernel_confines_a_command_in_full`, by that name; tests that need more than it grants then say
//! so and try nothing.

mod levels;
mod limits;
mod output;
mod reach;
mod supervision;
mod undoing;
mod world;
