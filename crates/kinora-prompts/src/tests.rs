//! The language as people write it, and as enemies do.

use std::collections::BTreeSet;

use super::*;

struct Lists(&'static [(&'static str, &'static str)]);

impl Source for Lists {
    fn read(&self, name: &str) -> Result<Option<String>, String> {
        if name == "broken" {
            return Err("it is not UTF-8".to_owned());
        }
        let found = self.0.iter().find(|(known, _)| *known == name);
        Ok(found.map(|(_, text)| (*text).to_owned()))
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

fn library() -> Library {
    Library::new(Lists(&[
        ("colors", "red\n# none\n\n  3::blue \ngreen, {light|dark}\n"),
        ("animals/birds", "owl\n\\#1 hen\n"),
        ("outer", "<wildcard:colors> <wc:animals/birds>\n"),
        ("self", "a <wildcard:self>"),
        ("ping", "<wildcard:pong>"),
        ("pong", "<wildcard:ping>"),
        ("empty", "# nothing\n\n"),
        ("bad", "fine\n  2::a {b|c\n"),
    ]))
}

fn read(text: &str) -> Prompt {
    library().read(text).unwrap_or_else(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{text}: {errors:?}")
    })
}

fn all(text: &str) -> Vec<String> {
    let prompt = read(text);
    let texts: Vec<String> = prompt.combinations().map(Result::unwrap).collect();
    assert_eq!(texts.len() as u128, prompt.count(), "{text}");
    texts
}

fn errors(text: &str) -> Vec<String> {
    let errors = library().read(text).expect_err(text);
    for error in &errors {
        assert!(error.hint().ends_with('.'), "{text}: {}", error.hint());
    }
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn plain_prompts_say_themselves() {
    for text in [
        "",
        "a red fox",
        " spaces \n and lines ",
        "a {word} { and }",
        "{\"subject\": \"a fox\", \"n\": {\"x\": [1, 2]}}",
        "(a:1.2) [b] [c|d] [e:f:0.5] \\(x\\) C:\\dir",
        "<lora:x:0.8> <b> 1 < 2 > 0 a->b",
        "日本語 {é}",
        "costs $$ {5$}",
    ] {
        let prompt = read(text);
        assert!(prompt.is_plain(), "{text}");
        assert!(is_plain(text), "{text}");
        assert_eq!(prompt.count(), 1);
        assert_eq!(prompt.draw(Draws::new(1, 0)).unwrap(), text);
    }
}

#[test]
fn combinations_come_in_order() {
    for (text, expected) in [
        ("{a|b} {c|d}", &["a c", "a d", "b c", "b d"][..]),
        ("{ a cat | a dog }!", &["a cat!", "a dog!"]),
        ("{a|}x", &["ax", "x"]),
        ("{a|{b|c} d}", &["a", "b d", "c d"]),
        ("{3::a|0::b|0.5::c}", &["a", "c"]),
        ("{2$$a|b|c}", &["a, b", "a, c", "b, c"]),
        ("{2$$ and $$a|b}", &["a and b"]),
        ("{1-2$$-$$a|b}", &["a", "b", "a-b"]),
        ("{0-1$$a|b}", &["", "a", "b"]),
        ("{2-$$+$$a|b|c}", &["a+b", "a+c", "b+c", "a+b+c"]),
        ("{2$$\\|$$a|b}", &["a|b"]),
        (
            "{2$$ $${a|b}|c|{d|e}}",
            &["a c", "a d", "a e", "b c", "b d", "b e", "c d", "c e"],
        ),
        ("<random:a, b>", &["a", "b"]),
        ("<random:a, b | c>", &["a, b", "c"]),
        ("<random:a|b || c>", &["a|b", "c"]),
        ("<random:(a, b:1.2), c>", &["(a, b:1.2)", "c"]),
        ("<random:1-3,x>", &["1", "2", "3", "x"]),
        ("<random:-1-1>", &["-1", "0", "1"]),
        ("<random:0.9-1.1>", &["0.9", "1.0", "1.1"]),
        ("<random:-0.1-0.1>", &["-0.1", "0.0", "0.1"]),
        ("<random[2,]:a,b,c>", &["a, b", "a, c", "b, c"]),
        ("<random[2]:a,b>", &["a b"]),
        (
            "<wildcard:colors>",
            &["red", "blue", "green, light", "green, dark"],
        ),
        ("<wc: animals/birds >", &["owl", "#1 hen"]),
        ("{2$$<wildcard:animals/birds>}", &["owl, #1 hen"]),
        ("<repeat[2]:{a|b}>", &["a a", "a b", "b a", "b b"]),
        ("<repeat:1-2,a>", &["a", "a a"]),
        ("<repeat:2,a, b>", &["a, b a, b"]),
        ("<repeat[2,]:x>", &["x, x"]),
        ("x<comment: { | [ <b> ] >y", &["xy"]),
        (
            "<setvar[c]:{red|blue}> and <var:c>",
            &["red and red", "blue and blue"],
        ),
        ("<setvar[c,false]:{a|b}>x<var[c]:>", &["xa", "xb"]),
        ("<alternate:cat, {dog|hen}>", &["[cat|dog]", "[cat|hen]"]),
        ("<alt:a|b>", &["[a|b]"]),
        ("<fromto[0.5]:a, b>", &["[a:b:0.5]"]),
        ("{x|[a|b]|y}", &["x", "[a|b]", "y"]),
        ("{x [a|b}", &["x [a", "b"]),
        ("{:)|:(}", &[":)", ":("]),
        ("[{a|b}:c:0.5]", &["[a:c:0.5]", "[b:c:0.5]"]),
        ("[a\\|b|c]", &["[a\\|b|c]"]),
        ("\\{a\\|b\\} \\<random:a,b>", &["{a|b} <random:a,b>"]),
        ("{a\\|b|c}", &["a|b", "c"]),
        ("{a::b|c::2}", &["a::b", "c::2"]),
        (
            "{\"subject\": \"a {red|blue} fox\"}",
            &[
                "{\"subject\": \"a red fox\"}",
                "{\"subject\": \"a blue fox\"}",
            ],
        ),
        ("<RANDOM:a,b>", &["a", "b"]),
        ("({a|b}:1.2)", &["(a:1.2)", "(b:1.2)"]),
    ] {
        assert_eq!(all(text), expected, "{text}");
    }
    assert_eq!(all("<wildcard:outer>").len(), 8);
}

#[test]
fn every_drawn_text_is_one_of_the_combinations() {
    for text in [
        "{a|b|{c|d}} {3::x|y}",
        "{2$$, $$a|{b|c}|d|e}",
        "{1-3$$ $$a|b|c}",
        "<repeat:0-3,{a|b}> <random:1-4>",
        "<random[1-2]:a,b,<wildcard:colors>>",
        "<setvar[v]:<wildcard:outer>> <var:v> <fromto[3]:{a|b},c>",
    ] {
        let prompt = read(text);
        let combinations: BTreeSet<String> = prompt.combinations().map(Result::unwrap).collect();
        let mut drawn = BTreeSet::new();
        for seed in 0..2_000 {
            let one = prompt.draw(Draws::new(seed, 0)).unwrap();
            assert!(combinations.contains(&one), "{text}: {one}");
            assert_eq!(one, prompt.draw(Draws::new(seed, 0)).unwrap());
            drawn.insert(one);
        }
        assert_eq!(drawn, combinations, "{text}: everything comes up");
    }
}

/// These are a promise: a seed draws the same words in every version.
#[test]
fn a_seed_always_draws_the_same() {
    let prompt = read("{red|green|blue} {2$$cat|dog|owl} <random:1-100> {9::a|b}");
    let drawn: Vec<String> = [0, 1, 42, u64::MAX]
        .into_iter()
        .map(|seed| prompt.draw(Draws::new(seed, 0)).unwrap())
        .collect();
    assert_eq!(drawn, PROMISED);
    assert_ne!(
        prompt.draw(Draws::new(42, 1)).unwrap(),
        prompt.draw(Draws::new(42, 0)).unwrap()
    );
}

const PROMISED: [&str; 4] = [
    "blue cat, dog 11 a",
    "green dog, owl 45 a",
    "blue cat, dog 4 a",
    "blue cat, owl 71 a",
];

#[test]
fn weights_are_kept_in_proportion() {
    let prompt = read("{3::a|b|0::c|0.5::d}");
    let mut counts = [0_u32; 4];
    for seed in 0..9_000 {
        let drawn = prompt.draw(Draws::new(seed, 0)).unwrap();
        counts["abcd".find(&drawn).unwrap()] += 1;
    }
    for (count, expected) in counts.into_iter().zip([6_000_u32, 2_000, 0, 1_000]) {
        assert!(count.abs_diff(expected) < 150, "{counts:?}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, expected) in [
        (
            "a {b|c",
            &["column 3: the choice that begins here is not closed"][..],
        ),
        (
            "a\n日 <random:a",
            &["line 2, column 3: <random:… is not closed"],
        ),
        ("<comment:x", &["column 1: <comment:… is not closed"]),
        ("{3$$a|b}", &["column 1: 3 are picked of 2"]),
        ("{200$$a|b}", &["column 2: \"200\" is no number of picks"]),
        ("{3-1$$a|b|c}", &["column 2: \"3-1\" is no number of picks"]),
        ("{x$$a|b}", &["column 2: \"x\" is no number of picks"]),
        (
            "{0::a|0::b}",
            &["column 1: there is nothing to choose from"],
        ),
        ("{99999999::a|b}", &["column 2: \"99999999\" is no weight"]),
        ("{1.2.3::a|b}", &["column 2: \"1.2.3\" is no weight"]),
        (
            "<random:5-1>",
            &["column 9: \"5-1\" is no range of numbers"],
        ),
        (
            "<repeat:x>",
            &["column 1: this repeat does not say how often"],
        ),
        (
            "<repeat[101]:x>",
            &["column 1: this repeat does not say how often"],
        ),
        (
            "<fromto:a,b>",
            &["column 1: this change needs a step and two texts"],
        ),
        (
            "<fromto[2]:a>",
            &["column 1: this change needs a step and two texts"],
        ),
        (
            "<wildcard:color>",
            &["column 11: there is no wildcard \"color\""],
        ),
        ("<wildcard:../x>", &["column 11: \"../x\" is no name"]),
        ("<wildcard:{a|b}>", &["column 11: \"{a|b}\" is no name"]),
        (
            "x <wildcard:empty>",
            &["column 13: there is nothing to choose from"],
        ),
        (
            "<wildcard:broken>",
            &["column 11: the wildcard \"broken\" cannot be read: it is not UTF-8"],
        ),
        (
            "<wildcard:self>",
            &["wildcard self, line 1, column 13: the wildcard \"self\" contains itself"],
        ),
        (
            "<wildcard:ping>",
            &["wildcard pong, line 1, column 11: the wildcard \"ping\" contains itself"],
        ),
        (
            "<wildcard:bad>",
            &["wildcard bad, line 2, column 8: the choice that begins here is not closed"],
        ),
        ("<var:x>", &["column 1: nothing sets the variable \"x\""]),
        ("<setvar[a/b]:x>", &["column 1: \"a/b\" is no name"]),
        ("<wildcrad:colors>", &["column 1: there is no <wildcrad:…>"]),
        (
            "{a|b {1|2 <random:x",
            &[
                "column 1: the choice that begins here is not closed",
                "column 6: the choice that begins here is not closed",
                "column 11: <random:… is not closed",
            ],
        ),
        (
            "<random:{a|b,c>",
            &["column 9: the choice that begins here is not closed"],
        ),
    ] {
        assert_eq!(errors(text), expected, "{text}");
    }
    let error = &library().read("<wildcard:color>").unwrap_err()[0];
    assert!(error.hint().contains("\"colors\""), "{}", error.hint());
}

#[test]
fn wildcards_are_checked_by_themselves() {
    assert_eq!(check_list("a\n# b\n2::c\n<wildcard:later>\n"), Ok(3));
    assert_eq!(check_list("{2$$<wildcard:later>}"), Ok(1));
    assert_eq!(check_list("\u{feff}a\r\nb\r\n"), Ok(2));
    let errors = check_list("a\n  {b|\n").unwrap_err();
    assert_eq!((errors[0].at.line, errors[0].at.column), (2, 3));
    assert!(check_list("# only this").is_err());
    for name in ["colors", "a/b", "Farben 2", "日本", "x.y-z_1"] {
        assert!(check_name(name), "{name}");
    }
    for name in [
        "", "/a", "a/", "a//b", ".", "..", "a/../b", ".hidden", "a\\b", "a:b", "con", "NUL.txt",
        "a.", "a ", "-x", "a\0", "lpt1",
    ] {
        assert!(!check_name(name), "{name}");
    }
}

#[test]
fn huge_counts_are_counted_without_counting() {
    let prompt = read(&"{a|b}".repeat(100));
    assert_eq!(prompt.count(), 1 << 100);
    assert_eq!(prompt.combination((1 << 100) - 1).unwrap(), "b".repeat(100));
    assert_eq!(
        prompt.combinations().nth(5).unwrap().unwrap(),
        "a".repeat(97) + "bab"
    );
    let prompt = read(&"{a|b}".repeat(1_000));
    assert_eq!(prompt.count(), u128::MAX);
    assert_eq!(prompt.combinations().take(3).count(), 3);
    let options: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    let prompt = read(&format!("{{50$${}}}", options.join("|")));
    assert_eq!(prompt.count(), u128::MAX);
    assert!(prompt.combination(7).unwrap().starts_with("0, 1, 2"));
    let prompt = read(&format!("{{3$${}}}", options.join("|")));
    assert_eq!(prompt.count(), 200 * 199 * 198 / 6);
    assert_eq!(
        prompt.combination(prompt.count() - 1).unwrap(),
        "197, 198, 199"
    );
}

/// Doubles with each list: a kilobyte of text that would be an hour of work.
struct Laughs;

impl Source for Laughs {
    fn read(&self, name: &str) -> Result<Option<String>, String> {
        let number: u32 = name.parse().map_err(|_| "no number".to_owned())?;
        Ok(Some(if number == 0 {
            "{|}".to_owned()
        } else {
            format!("<wc:{0}><wc:{0}>", number - 1)
        }))
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[test]
fn no_text_takes_long() {
    let library = Library::new(Laughs);
    let prompt = library.read("<wc:29>").unwrap();
    assert_eq!(prompt.count(), u128::MAX);
    let error = prompt.draw(Draws::new(0, 0)).unwrap_err();
    assert_eq!(error.fault, Fault::TooMuchWork);
    assert!(prompt.combination(0).is_err());
    assert!(library.read("<wc:200>").is_err());
    // The same from the bottom up, so that each list is known when it is asked for.
    let library = Library::new(Laughs);
    let depth = (0..200).find(|depth| library.read(&format!("<wc:{depth}>")).is_err());
    assert!(depth.is_some_and(|depth| depth <= MAX_DEPTH), "{depth:?}");

    let repeats = "<repeat[100]:".repeat(20) + "x" + &">".repeat(20);
    assert!(read(&repeats).draw(Draws::new(0, 0)).is_err());
    let doubling: String = (0..60)
        .map(|_| "<setvar[v,false]:<var:v><var:v>xx>".to_owned())
        .collect();
    let doubling = format!("<setvar[v]:y>{doubling}");
    assert!(read(&doubling).draw(Draws::new(0, 0)).is_err());
}

#[test]
fn hostile_texts_end_in_time_and_never_panic() {
    let library = library();
    let mut texts = vec![
        "{".repeat(250_000),
        "}".repeat(250_000),
        "{|".repeat(100_000),
        "{|".repeat(100_000) + &"}".repeat(100_000),
        "<random:".repeat(30_000),
        "<random:".repeat(30_000) + &">".repeat(1_000),
        "<comment:".repeat(28_000),
        "[".repeat(200_000) + "|}",
        "{a|[".repeat(50_000) + "}",
        "<".repeat(250_000),
        "<random[".repeat(30_000),
        "<aaaaaaaaaaaaaaaaaaaaaa".repeat(10_000),
        "\\".repeat(250_001),
        "{100$$".to_owned() + &"|".repeat(200_000) + "}",
        "{0-100$$".to_owned() + &"x|".repeat(9_000) + "}",
        "{2$$a|b}".repeat(30_000),
        "(".repeat(100_000) + "<random:a,b>",
        "<random:".to_owned() + &"(,".repeat(100_000) + ">",
        "x".repeat(300_000),
    ];
    // Every short text over the characters that mean something.
    let alphabet: Vec<&str> = vec![
        "{",
        "}",
        "|",
        "<random:",
        "<wc:colors",
        "<repeat:2,",
        ">",
        "[",
        "]",
        "\\",
        "$$",
        "2",
        "::",
        ",",
        "a",
        "日",
        ":",
        "<comment:",
        "<setvar[a]:",
        "<var:a",
    ];
    let mut draws = Draws::new(99, 0);
    for _ in 0..20_000 {
        let length = draws.below(14);
        let pick = |draws: &mut Draws| alphabet[usize::try_from(draws.below(20)).unwrap()];
        texts.push((0..length).map(|_| pick(&mut draws)).collect());
    }
    for text in &texts {
        match library.read(text) {
            Ok(prompt) => {
                let _ = prompt.draw(Draws::new(3, 0));
                for text in prompt.combinations().take(3) {
                    let _ = text;
                }
                let _ = prompt.combination(prompt.count() / 2);
                let _ = prompt.combination(u128::MAX);
            }
            Err(errors) => {
                assert!(!errors.is_empty() && errors.len() <= 21);
                for error in errors {
                    let _ = (error.to_string(), error.hint());
                }
            }
        }
        let _ = (is_plain(text), has_weights(text), check_list(text));
    }
}
