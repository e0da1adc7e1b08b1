//! Any text is a request: it is answered or refused as its client reads it, by nobody's forged identity, and without what it may
//! not see.
#![no_main]

#[path = "../../tests/requests/world.rs"]
#[expect(dead_code, reason = "it asks for nothing that it knows")]
mod world;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static WORLD: world::World = world::World::new();
}

fuzz_target!(|text: &str| {
    WORLD.with(|world| world.check(text));
});
