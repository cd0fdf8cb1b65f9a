//! Which form of a message a number takes: the rule of a language, as gettext writes it (GNU gettext manual, "Plural forms"),
//! `n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 ? 1 : 2`. Its value is the form's place in the list, from 0.

/// A parsed rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(Expression);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Count,
    Number(u64),
    Both(Operator, Box<(Expression, Expression)>),
    Choice(Box<(Expression, Expression, Expression)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    AtMost,
    AtLeast,
    Less,
    More,
    Remainder,
}

/// Operators from loose to tight; of those at the same level the longer sign comes first.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[("==", Operator::Equal), ("!=", Operator::Unequal)],
    &[
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("<", Operator::Less),
        (">", Operator::More),
    ],
    &[("%", Operator::Remainder)],
];

/// Longest rule, in bytes: the longest in use has about 150. It bounds how deep one can be nested.
const RULE_MAX: usize = 300;

impl Rule {
    /// English and many others: one, and all else.
    pub fn one_and_other() -> Rule {
        Rule::parse("n != 1").expect("a rule")
    }

    /// Reads a rule. The error says what it stumbled over.
    pub fn parse(text: &str) -> Result<Rule, String> {
        if text.len() > RULE_MAX {
            return Err(format!("a plural rule has at most {RULE_MAX} bytes"));
        }
        let mut rest = text.trim();
        let found = choice(&mut rest)?;
        match rest.is_empty() {
            true => Ok(Rule(found)),
            false => Err(format!("the plural rule is not understood at “{rest}”")),
        }
    }

    /// The place of the form for a number.
    pub fn form(&self, count: u64) -> usize {
        usize::try_from(value(&self.0, count)).unwrap_or(usize::MAX)
    }
}

fn value(it: &Expression, count: u64) -> u64 {
    match it {
        Expression::Count => count,
        Expression::Number(it) => *it,
        Expression::Choice(it) if value(&it.0, count) != 0 => value(&it.1, count),
        Expression::Choice(it) => value(&it.2, count),
        Expression::Both(operator, it) => {
            let (left, right) = (value(&it.0, count), value(&it.1, count));
            match operator {
                Operator::Or => u64::from(left != 0 || right != 0),
                Operator::And => u64::from(left != 0 && right != 0),
                Operator::Equal => u64::from(left == right),
                Operator::Unequal => u64::from(left != right),
                Operator::AtMost => u64::from(left <= right),
                Operator::AtLeast => u64::from(left >= right),
                Operator::Less => u64::from(left < right),
                Operator::More => u64::from(left > right),
                Operator::Remainder => left.checked_rem(right).unwrap_or(0),
            }
        }
    }
}

fn took(rest: &mut &str, sign: &str) -> bool {
    match rest.strip_prefix(sign) {
        Some(it) => {
            *rest = it.trim_start();
            true
        }
        None => false,
    }
}

fn choice(rest: &mut &str) -> Result<Expression, String> {
    let condition = level(rest, 0)?;
    if !took(rest, "?") {
        return Ok(condition);
    }
    let then = choice(rest)?;
    if !took(rest, ":") {
        return Err("the plural rule has a “?” without its “:”".to_owned());
    }
    Ok(Expression::Choice(Box::new((condition, then, choice(rest)?))))
}

fn level(rest: &mut &str, at: usize) -> Result<Expression, String> {
    let Some(operators) = LEVELS.get(at) else {
        return single(rest);
    };
    let mut left = level(rest, at + 1)?;
    while let Some((_, operator)) = operators.iter().find(|(sign, _)| took(rest, sign)) {
        let right = level(rest, at + 1)?;
        left = Expression::Both(*operator, Box::new((left, right)));
    }
    Ok(left)
}

fn single(rest: &mut &str) -> Result<Expression, String> {
    if took(rest, "n") {
        return Ok(Expression::Count);
    }
    if took(rest, "(") {
        let inner = choice(rest)?;
        return match took(rest, ")") {
            true => Ok(inner),
            false => Err("the plural rule lacks a “)”".to_owned()),
        };
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    let number = digits
        .parse()
        .map_err(|_| format!("the plural rule is not understood at “{rest}”"))?;
    *rest = behind.trim_start();
    Ok(Expression::Number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(rule: &str, counts: &[u64]) -> Vec<usize> {
        let rule = Rule::parse(rule).expect("a rule");
        counts.iter().map(|it| rule.form(*it)).collect()
    }

    /// The rules as the gettext manual lists them.
    #[test]
    fn rules_of_several_families_count_right() {
        assert_eq!(forms("0", &[0, 1, 2]), [0, 0, 0], "Japanese");
        assert_eq!(forms("n != 1", &[0, 1, 2]), [1, 0, 1], "English, German");
        assert_eq!(forms("n>1", &[0, 1, 2]), [0, 0, 1], "French");
        let russian = "n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2";
        assert_eq!(
            forms(russian, &[1, 2, 5, 11, 12, 21, 22, 25, 111]),
            [0, 1, 2, 2, 2, 0, 1, 2, 2]
        );
        let arabic = "n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 ? 4 : 5";
        assert_eq!(forms(arabic, &[0, 1, 2, 3, 11, 100, 103]), [0, 1, 2, 3, 4, 5, 3]);
    }

    #[test]
    fn a_rule_that_is_none_says_so() {
        for it in [
            "",
            "n ==",
            "n ? 1",
            "(n",
            "m",
            "n 1",
            "99999999999999999999",
            "n = 1",
        ] {
            assert!(Rule::parse(it).is_err(), "{it}");
        }
        assert!(Rule::parse(&"(".repeat(400)).is_err());
        assert_eq!(forms("n % 0", &[3]), [0]);
    }
}
