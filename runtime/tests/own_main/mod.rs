//! What libtest does, for test programs with a `main` of their own: their clusters' processes are they themselves, executed again.

/// Lists the tests, or runs those whose names contain an argument: all, if no argument is one for names.
pub fn run(tests: &[(&str, fn())]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = tests.iter().filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())));
    for (name, test) in chosen {
        // A panic ends the program with its message and exit code 101.
        test();
        println!("test {name} ... ok");
    }
}
