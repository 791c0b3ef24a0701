//! How entries age, by what was said of them and what is vouched for.

use super::*;
use crate::wire::Document;

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Freshness {
    Freshness {
        ttl: Some(30 * SECOND),
        ttl_jitter: 0.1,
        stale_while_revalidate: 5 * SECOND,
        stale_if_error: 60 * SECOND,
        negative_ttl: SECOND,
        ..Freshness::default()
    }
}

fn known(age: u32, policy: Policy<'static>) -> Known {
    let past = Past { age: age * SECOND, is_stale: false, ..Past::default() };
    Known { past, policy: Some(Box::new(policy)), not_stored: None }
}

fn times(lifetime: u32, while_revalidate: Option<u32>, if_error: Option<u32>) -> Policy<'static> {
    let (stale_while_revalidate, stale_if_error) = (while_revalidate, if_error);
    let lifetime = Some(lifetime * SECOND);
    Policy { lifetime, stale_while_revalidate, stale_if_error, ..Policy::default() }
}

#[test]
fn what_a_source_says_counts_within_the_bounds() {
    let asked = Millis(1_000_000);
    let bounded = Freshness { min_ttl: 5 * SECOND, max_ttl: Some(100 * SECOND), ..rules() };
    let left = |rules: &Freshness, known: &Known| {
        let (begun, lifetime) = rules.span("a/1", known, asked, true, 0.0);
        (
            asked.since(begun).as_secs(),
            lifetime.map(|life| life.as_secs() as i64 - asked.since(begun).as_secs() as i64),
        )
    };
    for (said, age, free, within) in
        [(60, 0, 60, 60), (60, 20, 60, 60), (2, 0, 2, 5), (0, 20, 0, 5), (500, 20, 500, 100)]
    {
        let known = known(age, times(said, None, None));
        assert_eq!(left(&rules(), &known), (age.into(), Some(free)), "{said} {age}");
        assert_eq!(left(&bounded, &known), (age.into(), Some(within)), "{said} {age}");
    }
    let each_use = known(0, Policy { is_revalidated: true, ..times(0, Some(0), Some(0)) });
    assert_eq!(left(&bounded, &each_use), (0, Some(0)));
    assert_eq!(left(&bounded, &Known::default()), (0, Some(30)));
    let for_ever = Freshness { ttl: None, ..bounded };
    assert_eq!(left(&for_ever, &Known::default()), (0, Some(100)));
    let missing = |known: &Known| rules().span("a/1", known, asked, false, 0.0).1;
    assert_eq!(missing(&Known::default()), Some(SECOND));
    assert_eq!(missing(&known(0, times(60, None, None))), Some(60 * SECOND));
}

#[test]
fn what_a_source_says_of_stale_documents_counts() {
    let rules = rules();
    let verdict = |policy: Policy<'_>, seconds: u64| {
        let entry = entry_of(true, Some(&policy));
        (
            rules.verdict(&entry, Vouched::NOTHING, Millis(seconds * 1000), || 0.5),
            rules.is_gone(&entry, Vouched::NOTHING, Millis(seconds * 1000)),
        )
    };
    assert_eq!(verdict(times(30, None, None), 31), (Verdict::StaleRefresh, false));
    assert_eq!(verdict(times(30, Some(0), None), 31), (Verdict::IfError, false));
    assert_eq!(verdict(times(30, Some(0), Some(0)), 31), (Verdict::Gone, true));
    assert_eq!(verdict(times(30, Some(100), Some(0)), 100), (Verdict::StaleRefresh, false));
    assert_eq!(verdict(times(30, None, Some(600)), 500), (Verdict::IfError, false));
}

#[test]
fn an_entry_with_a_validator_outlives_its_use() {
    let etag = Some(crate::source::Validator::Etag(b"1"[..].into()));
    let policy = Policy { validator: etag, ..times(30, Some(0), Some(0)) };
    let entry = entry_of(true, Some(&policy));
    let rules = rules();
    assert!(
        rules.is_gone(&entry, Vouched::NOTHING, Millis(30_000))
            && !rules.is_useless(&entry, Vouched::NOTHING, Millis(30_000))
    );
    assert!(rules.is_useless(
        &entry,
        Vouched::NOTHING,
        Millis(30_000 + KEPT_FOR_VALIDATION.as_millis() as u64)
    ));
}

fn entry(document: bool) -> Entry {
    entry_of(document, None)
}

fn entry_of(document: bool, policy: Option<&Policy<'_>>) -> Entry {
    let document = document.then(|| Document::parse(b"1", 9).unwrap());
    let fetch = Duration::from_millis(100);
    Entry::of_policy("a/1", document, Millis(0), Some(30 * SECOND), fetch, policy)
}

#[test]
fn ages_from_fresh_to_gone() {
    let (rules, entry) = (rules(), entry(true));
    let verdict = |ms| rules.verdict(&entry, Vouched::NOTHING, Millis(ms), || 0.5);
    assert_eq!(verdict(0), Verdict::Fresh);
    assert_eq!(verdict(29_000), Verdict::Fresh);
    assert_eq!(verdict(29_999), Verdict::FreshRefresh);
    assert_eq!(verdict(30_000), Verdict::StaleRefresh);
    assert_eq!(verdict(35_000), Verdict::IfError);
    assert_eq!(verdict(90_000), Verdict::Gone);
    assert!(
        !rules.is_gone(&entry, Vouched::NOTHING, Millis(89_999))
            && rules.is_gone(&entry, Vouched::NOTHING, Millis(90_000))
    );
}

#[test]
fn a_soft_purge_is_a_stale_moment() {
    let (rules, entry) = (rules(), entry(true));
    entry.purge_softly();
    assert_eq!(rules.verdict(&entry, Vouched::NOTHING, Millis(1), || 0.5), Verdict::StaleRefresh);
    assert_eq!(rules.verdict(&entry, Vouched::NOTHING, Millis(36_000), || 0.5), Verdict::IfError);
}

#[test]
fn a_document_without_a_time_to_live_outlives_any_failure_of_an_origin_that_told_of_changes() {
    let document = Some(Document::parse(b"1", 9).unwrap());
    let entry = Entry::new("a/1", document, Millis(2), None, Duration::ZERO);
    let (lapsed, a_year) = (Vouched::until(Millis(1), Millis(3), Millis(2000)), Millis(31_536_000_000));
    assert_eq!(rules().verdict(&entry, lapsed, Millis(1999), || 0.5), Verdict::Fresh);
    let patient = Freshness { stale_while_revalidate: Duration::ZERO, ..rules() };
    assert_eq!(patient.verdict(&entry, lapsed, a_year, || 0.5), Verdict::IfError);
    assert!(!patient.is_gone(&entry, lapsed, a_year));
    let strict = Freshness { stale_if_error: Duration::ZERO, ..patient };
    assert_eq!(strict.verdict(&entry, lapsed, a_year, || 0.5), Verdict::Gone);
    assert!(strict.is_gone(&entry, lapsed, a_year));
}

#[test]
fn an_absence_is_never_stale() {
    let (rules, entry) = (rules(), entry(false));
    assert_eq!(rules.verdict(&entry, Vouched::NOTHING, Millis(29_999), || 1e-9), Verdict::Fresh);
    assert_eq!(rules.verdict(&entry, Vouched::NOTHING, Millis(30_000), || 0.5), Verdict::Gone);
    assert!(rules.is_gone(&entry, Vouched::NOTHING, Millis(30_000)));
}

#[test]
fn what_aged_elsewhere_has_less_life_here_and_what_was_stale_there_has_none() {
    let asked = Millis(1_000_000);
    let state = |age, is_stale, ttl: Option<Duration>| {
        let (begun, lifetime) = Freshness::inherited(Past { age, is_stale, ..Past::default() }, asked, ttl);
        let document = Document::parse(b"1", 9).unwrap();
        let entry = Entry::new("a/1", Some(document), begun, lifetime, Duration::ZERO);
        (entry.age(asked), entry.fresh_until().map(|until| until.0 as i64 - asked.0 as i64))
    };
    let ttl = Some(30 * SECOND);
    assert_eq!(state(Duration::ZERO, false, ttl), (Duration::ZERO, Some(30_000)));
    assert_eq!(state(20 * SECOND, false, ttl), (20 * SECOND, Some(10_000)));
    assert_eq!(state(40 * SECOND, false, ttl), (40 * SECOND, Some(-10_000)));
    assert_eq!(state(20 * SECOND, false, None), (20 * SECOND, None));
    assert_eq!(state(20 * SECOND, true, ttl), (20 * SECOND, Some(0)));
    assert_eq!(state(40 * SECOND, true, ttl), (40 * SECOND, Some(-10_000)), "its time to be served runs");
    assert_eq!(state(20 * SECOND, true, None), (20 * SECOND, Some(0)));
    assert_eq!(state(Duration::ZERO, true, None), (Duration::ZERO, Some(0)), "younger than a second");
}

#[test]
fn jitter_only_shortens() {
    let rules = rules();
    assert_eq!(rules.lifetime("a/1", 0.0), Some(30 * SECOND));
    assert_eq!(rules.lifetime("a/1", 1.0), Some(27 * SECOND));
    assert_eq!(Freshness { ttl: None, ..rules }.lifetime("a/1", 0.5), None);
}

#[test]
fn beneath_a_prefix_its_rule_counts_and_a_header_before_it() {
    let mut prefixes = Prefixes::default();
    let rule = PrefixRule {
        ttl: Some(2 * SECOND),
        stale_while_revalidate: Some(Duration::ZERO),
        stale_if_error: Some(10 * SECOND),
        negative_ttl: None,
    };
    prefixes.add("a/*", rule).unwrap();
    let rules = Freshness { prefixes, ..rules() };
    let life = |key: &str, known: &Known, is_document| rules.span(key, known, Millis(0), is_document, 0.0).1;
    let said = known(0, times(60, None, None));
    assert_eq!(life("a/1", &Known::default(), true), Some(2 * SECOND));
    assert_eq!(life("b/1", &Known::default(), true), Some(30 * SECOND));
    assert_eq!(life("a/1", &said, true), Some(60 * SECOND));
    assert_eq!(life("a/1", &Known::default(), false), Some(SECOND), "what it does not say is as for all");
    let policy = said.policy.as_deref();
    assert_eq!(rules.rule("a/1", true, None), Rule::Prefix("a/"));
    assert_eq!((rules.rule("a/1", true, policy), rules.rule("b/1", true, None)), (Rule::Header, Rule::Flag));
    assert_eq!(rules.rule("a/1", false, None), Rule::Flag);
    let verdict = |ms| rules.verdict(&entry(true), Vouched::NOTHING, Millis(ms), || 0.5);
    assert_eq!((verdict(30_000), verdict(40_000)), (Verdict::IfError, Verdict::Gone));
    assert_eq!(rules.sweep_round(), Some(SECOND));
    let for_ever = Freshness { ttl: None, negative_ttl: Duration::ZERO, ..rules };
    assert_eq!(for_ever.sweep_round(), Some(3 * SECOND), "what is beneath the prefix expires");
}
