//! RE2's syntax of regular expressions, in which consumers subscribe, into that of Rust's `regex`; errors in RE2/J's words.
//!
//! Both match in linear time and mean the same by most of what they share. They differ in what they refuse, in classes (`[[&&]`),
//! in literal braces and in quotes (`\Q…\E`), which is what is rewritten here.

use regex::{Regex, RegexBuilder};
use std::{collections::BTreeSet, fmt::Write as _, iter::Peekable, str::Chars};

/// Bytes that a compiled expression may take.
const COMPILED_MAX: usize = 1 << 20;
/// The most that a count in braces may be.
const REPEAT_MAX: u32 = 1000;
/// The longest expression: it is part of a record's key.
const LENGTH_MAX: usize = i16::MAX as usize;

/// More than a count in braces or the name of a class may have.
const LOOK_AHEAD: usize = 32;

const TOO_LARGE: &str = "expression too large";
const BAD_ESCAPE: &str = "invalid escape sequence";
const BAD_RANGE: &str = "invalid character class range";
const BAD_PERL: &str = "invalid or unsupported Perl syntax";
const BAD_REPEAT: &str = "invalid repeat count";

/// Compiles an expression that matches whole texts.
pub(super) fn compile(expression: &str) -> Result<Regex, &'static str> {
    if expression.len() > LENGTH_MAX {
        return Err(TOO_LARGE);
    }
    let translated = translate(expression)?;
    let mut builder = RegexBuilder::new(&format!(r"\A(?:{translated})\z"));
    builder.size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => TOO_LARGE,
        // What is left to find: names of classes, and groups within groups.
        _ => BAD_RANGE,
    })
}

fn translate(expression: &str) -> Result<String, &'static str> {
    let names = BTreeSet::new();
    let mut reader = Reader {
        rest: expression.chars().peekable(),
        out: String::new(),
        depth: 0,
        names,
        last: Last::Nothing,
    };
    while let Some(next) = reader.rest.next() {
        reader.take(next)?;
    }
    if reader.depth > 0 { Err("missing closing )") } else { Ok(reader.out) }
}

/// What stands before, as far as a repetition may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Atom,
    Repetition,
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    depth: usize,
    names: BTreeSet<String>,
    last: Last,
}

impl Reader<'_> {
    fn take(&mut self, next: char) -> Result<(), &'static str> {
        match next {
            '\\' => self.escape()?,
            '[' => self.class()?,
            '(' => return self.open(),
            ')' if self.depth == 0 => return Err("regexp/syntax: internal error"),
            ')' => {
                self.depth -= 1;
                self.out.push(')');
            }
            '|' => {
                self.out.push('|');
                self.last = Last::Nothing;
                return Ok(());
            }
            '*' | '+' | '?' => return self.repetition(&next.to_string()),
            '{' => match self.count()? {
                Some(count) => return self.repetition(&count),
                None => self.literal('{'),
            },
            '.' | '^' | '$' => self.out.push(next),
            literal => self.literal(literal),
        }
        self.last = Last::Atom;
        Ok(())
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }

    /// A character that stands for itself, wherever it stands.
    fn literal(&mut self, literal: char) {
        write!(self.out, r"\x{{{:x}}}", u32::from(literal)).expect("strings take all");
    }

    fn repetition(&mut self, operator: &str) -> Result<(), &'static str> {
        match self.last {
            Last::Nothing => return Err("missing argument to repetition operator"),
            Last::Repetition => return Err("invalid nested repetition operator"),
            Last::Atom => self.last = Last::Repetition,
        }
        self.out.push_str(operator);
        if self.eat('?') {
            self.out.push('?');
        }
        Ok(())
    }

    /// `n}`, `n,}` or `n,m}`; what has another form is literal.
    fn count(&mut self) -> Result<Option<String>, &'static str> {
        let ahead: String = self.rest.clone().take(LOOK_AHEAD).collect();
        let Some((inner, _)) = ahead.split_once('}') else { return Ok(None) };
        let (least, most) = inner.split_once(',').map_or((inner, None), |(least, most)| (least, Some(most)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(least) || most.is_some_and(|most| !most.is_empty() && !is_number(most)) {
            return Ok(None);
        }
        let number =
            |text: &str| text.parse::<u32>().ok().filter(|number| *number <= REPEAT_MAX).ok_or(BAD_REPEAT);
        let least = number(least)?;
        if let Some(most) = most.filter(|most| !most.is_empty())
            && number(most)? < least
        {
            return Err(BAD_REPEAT);
        }
        for _ in 0..=inner.len() {
            self.rest.next();
        }
        Ok(Some(format!("{{{inner}}}")))
    }

    fn open(&mut self) -> Result<(), &'static str> {
        if !self.eat('?') {
            self.depth += 1;
            self.last = Last::Nothing;
            self.out.push('(');
            return Ok(());
        }
        let is_named = self.rest.peek() == Some(&'<') || self.eat('P');
        if is_named {
            return if self.eat('<') { self.name() } else { Err("invalid named capture") };
        }
        let mut flags = String::new();
        loop {
            match self.rest.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => flags.push(flag),
                Some('-') if !flags.contains('-') => flags.push('-'),
                Some(end @ (':' | ')')) if !flags.ends_with('-') => {
                    self.depth += usize::from(end == ':');
                    self.last = Last::Nothing;
                    // `(?)` sets nothing, which `regex` refuses to be told.
                    if end == ':' || !flags.is_empty() {
                        write!(self.out, "(?{flags}{end}").expect("strings take all");
                    }
                    return Ok(());
                }
                _ => return Err(BAD_PERL),
            }
        }
    }

    fn name(&mut self) -> Result<(), &'static str> {
        let mut name = String::new();
        while let Some(letter) = self.rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
            name.push(letter);
        }
        if name.is_empty() || !self.eat('>') {
            return Err("invalid named capture");
        }
        if !self.names.insert(name) {
            return Err("duplicate capture group name");
        }
        self.depth += 1;
        self.last = Last::Nothing;
        // Nobody asks for what it has captured.
        self.out.push('(');
        Ok(())
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        match self.rest.peek().copied() {
            None => Err("trailing backslash at end of expression"),
            Some('Q') => {
                self.rest.next();
                self.quote();
                Ok(())
            }
            Some(anchor @ ('A' | 'z' | 'b' | 'B')) => {
                self.rest.next();
                write!(self.out, r"\{anchor}").expect("strings take all");
                Ok(())
            }
            Some(_) if self.class_escape()? => Ok(()),
            Some(_) => {
                let literal = self.character()?;
                self.literal(literal);
                Ok(())
            }
        }
    }

    fn quote(&mut self) {
        while let Some(next) = self.rest.next() {
            if next == '\\' && self.eat('E') {
                return;
            }
            self.literal(next);
        }
    }

    /// `\d` and its like, behind the backslash.
    fn class_escape(&mut self) -> Result<bool, &'static str> {
        let Some(class) = self.rest.next_if(|next| "dDsSwWpP".contains(*next)) else { return Ok(false) };
        if !matches!(class, 'p' | 'P') {
            // ASCII's, as in RE2.
            let inner = match class.to_ascii_lowercase() {
                'd' => "0-9",
                's' => r"\t\n\f\r ",
                _ => "0-9A-Za-z_",
            };
            let not = if class.is_ascii_uppercase() { "^" } else { "" };
            write!(self.out, "[{not}{inner}]").expect("strings take all");
            return Ok(true);
        }
        let mut name = String::new();
        match self.rest.next() {
            Some('{') => {
                while let Some(letter) = self.rest.next_if(|next| *next != '}') {
                    name.push(letter);
                }
                if !self.eat('}') {
                    return Err(BAD_RANGE);
                }
            }
            Some(letter) => name.push(letter),
            None => return Err(BAD_RANGE),
        }
        let (not, name) = name.strip_prefix('^').map_or(("", &*name), |name| ("^", name));
        if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
            return Err(BAD_RANGE);
        }
        let name = if name == "Any" { "any" } else { name };
        write!(self.out, r"[{not}\{class}{{{name}}}]").expect("strings take all");
        Ok(true)
    }

    /// The one character that an escape stands for, behind the backslash.
    fn character(&mut self) -> Result<char, &'static str> {
        let next = self.rest.next().ok_or("trailing backslash at end of expression")?;
        Ok(match next {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => self.hexadecimal()?,
            '1'..='7' if self.rest.peek().is_none_or(|next| !next.is_digit(8)) => return Err(BAD_ESCAPE),
            '0'..='7' => {
                let mut value = next.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(|next| next.is_digit(8)) else { break };
                    value = value * 8 + digit.to_digit(8).unwrap_or(0);
                }
                char::from_u32(value).ok_or(BAD_ESCAPE)?
            }
            literal if literal.is_ascii_punctuation() || literal.is_ascii_control() || literal == ' ' => {
                literal
            }
            _ => return Err(BAD_ESCAPE),
        })
    }

    fn hexadecimal(&mut self) -> Result<char, &'static str> {
        let is_braced = self.eat('{');
        let (mut value, mut digits) = (0_u32, 0);
        while digits < if is_braced { 8 } else { 2 } {
            let Some(digit) = self.rest.next_if(char::is_ascii_hexdigit) else { break };
            value = value.wrapping_mul(16) + digit.to_digit(16).unwrap_or(0);
            digits += 1;
        }
        let complete = if is_braced { digits > 0 && self.eat('}') } else { digits == 2 };
        char::from_u32(value).filter(|_| complete).ok_or(BAD_ESCAPE)
    }

    fn class(&mut self) -> Result<(), &'static str> {
        self.out.push('[');
        if self.eat('^') {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            match self.rest.next().ok_or("missing closing ]")? {
                ']' if !is_first => break,
                '[' if self.rest.peek() == Some(&':') && self.named_class()? => {}
                '\\' if self.class_escape()? => {}
                '\\' => {
                    let low = self.character()?;
                    self.range(low)?;
                }
                low => self.range(low)?,
            }
            is_first = false;
        }
        self.out.push(']');
        Ok(())
    }

    /// `:alpha:]` and its like; other text behind a bracket is literal.
    fn named_class(&mut self) -> Result<bool, &'static str> {
        let ahead: String = self.rest.clone().skip(1).take(LOOK_AHEAD).collect();
        let Some((name, _)) = ahead.split_once(":]") else { return Ok(false) };
        const KNOWN: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        if !KNOWN.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(BAD_RANGE);
        }
        write!(self.out, "[:{name}:]").expect("strings take all");
        for _ in 0..name.chars().count() + 3 {
            self.rest.next();
        }
        Ok(true)
    }

    /// A character of a class, or a range of them.
    fn range(&mut self, low: char) -> Result<(), &'static str> {
        let mut ahead = self.rest.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|next| next != ']');
        self.literal(low);
        if !is_range {
            return Ok(());
        }
        self.rest.next();
        let high = match self.rest.next() {
            Some('\\') => self.character()?,
            Some(high) => high,
            None => return Err("missing closing ]"),
        };
        if high < low {
            return Err(BAD_RANGE);
        }
        self.out.push('-');
        self.literal(high);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What RE2/J 1.8 says.
    #[test]
    fn what_re2_refuses_is_refused_in_its_words() {
        for (expression, words) in [
            ("[", "missing closing ]"),
            ("(", "missing closing )"),
            ("a)", "regexp/syntax: internal error"),
            ("*", "missing argument to repetition operator"),
            ("a**", "invalid nested repetition operator"),
            ("a++", "invalid nested repetition operator"),
            ("x{2}{3}", "invalid nested repetition operator"),
            ("a{1,5000}", BAD_REPEAT),
            ("a{2,1}", BAD_REPEAT),
            ("x{1001}", BAD_REPEAT),
            (r"\", "trailing backslash at end of expression"),
            ("[z-a]", BAD_RANGE),
            ("[a--b]", BAD_RANGE),
            ("[[:foo:]]", BAD_RANGE),
            (r"\p{Foo}", BAD_RANGE),
            (r"\1", BAD_ESCAPE),
            (r"\8", BAD_ESCAPE),
            (r"\C", BAD_ESCAPE),
            (r"\Z", BAD_ESCAPE),
            (r"[a-\d]", BAD_ESCAPE),
            ("(?P<n", "invalid named capture"),
            ("(?P<n>a)(?P<n>b)", "duplicate capture group name"),
            ("(?=a)", BAD_PERL),
            ("(?i", BAD_PERL),
            ("(?x)a b", BAD_PERL),
        ] {
            assert_eq!(compile(expression).err(), Some(words), "{expression}");
        }
    }

    #[test]
    fn what_matches_matches_whole_names() {
        for (expression, matching, other) in [
            ("foo.*", "foo-bar", "a-foo"),
            ("foo|bar", "bar", "foobar"),
            ("(?i)FOO", "foo", "foo2"),
            ("[[a]", "[", "b"),
            ("[a&&b]", "&", "c"),
            ("[~~]", "~", "a"),
            ("[]a]", "]", "b"),
            ("[^]a]", "b", "]"),
            ("[[:digit:]x]+", "1x2", "y"),
            (r"\Qa.b\E+", "a.bb", "axb"),
            ("a{,2}", "a{,2}", "aa"),
            ("a{2}", "aa", "a"),
            ("{", "{", "x"),
            (r"\d+\.\w*", "12.a_", "x.a"),
            (r"\x41\x{42}\103", "ABC", "abc"),
            (r"\pL+", "abc", "1"),
            ("(?P<n>a)(?<m>b)", "ab", "a"),
            ("a*?b", "aab", "aa"),
            ("(?s:.)", "\n", ""),
            ("", "", "x"),
        ] {
            let regex = compile(expression).unwrap_or_else(|words| panic!("{expression}: {words}"));
            assert!(regex.is_match(matching) && !regex.is_match(other), "{expression}: {regex}");
        }
    }

    #[test]
    fn no_expression_takes_much_memory() {
        assert_eq!(compile("((a{1000}){1000}){1000}").err(), Some(TOO_LARGE));
        assert_eq!(compile(&"a".repeat(40_000)).err(), Some(TOO_LARGE));
        assert!(compile(&"(".repeat(10_000)).is_err());
        assert!(compile(&format!("{}{}", "(".repeat(10_000), ")".repeat(10_000))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_expression_or_an_error(
            text in proptest::collection::vec(proptest::sample::select(
                r"ab\QE[](){}?*+|^$-:&~0123,x<>PidpL.".chars().collect::<Vec<_>>(),
            ), 0..24),
        ) {
            let _ = compile(&text.into_iter().collect::<String>());
        }
    }
}
