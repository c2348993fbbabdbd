//! A keyed permutation of all codes: count in order inside, look random outside.
//!
//! # The problem
//!
//! Sequence numbers are the cheapest names there are: nothing is stored ahead, nothing collides, and inserts go to the end
//! of the table, page after page. But who sees `000004C` and then `000004D` knows every other link, and how many were made
//! today. Random keys hide that, and pay with a table of keys and a page dirtied for every insert.
//!
//! # The idea
//!
//! Keep the sequence number inside, and show its image under a secret permutation of 0 .. 62^7 - 1. A permutation has no
//! collisions and can be undone, so a look-up goes back to the number; with a secret key, neighbours land anywhere.
//! Building one from a keyed hash is what a Feistel network does (Luby and Rackoff, 1988): split the value in two, add a
//! hash of one half to the other, swap, repeat. For a domain that is no power of two it works in modular arithmetic
//! (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002), and NIST standardised that form for strings of
//! digits as FF1 (SP 800-38G, 2016). This is FF1's network for seven digits of radix 62, ten rounds and all: the left half
//! has three digits, the right four. Only the round function is another, SipHash-2-4 (Aumasson and Bernstein, 2012) in
//! place of AES: also a keyed pseudo-random function, and thirty lines of the standard library's arithmetic.
//!
//! ```text
//!         left (3 digits, a)          right (4 digits, b)
//!           |                           |
//!          (+) <----- hash(round 0, b) -+          a' = a + hash(0, b)  mod 62^3
//!           |                           |
//!           +- hash(round 1, a') ----> (+)         b' = b + hash(1, a') mod 62^4
//!           |                           |
//!          ... ten rounds in all, the halves in turn ...
//! ```
//!
//! # Walk-through
//!
//! With the key of all zeros, consecutive numbers and their codes (a unit test holds this table to the code):
//!
//! ```text
//! number   code
//! 0        hnJOm5X
//! 1        fcFyHnJ
//! 2        ywSr4RC
//! ```
//!
//! # Why it is correct
//!
//! Each round adds to one half something that depends only on the other, so each can be undone by subtracting the same,
//! whatever the hash is: ten bijections in a row are one. That nobody can tell it from a random permutation without the key
//! rests on SipHash being a pseudo-random function, and on ten rounds, as many as FF1 takes, being plenty for halves of 18
//! and 24 bits.
//!
//! # What it is not
//!
//! Not encryption of anything worth stealing: a code is public, and the link behind it is for whoever has the code. It
//! stops people from walking through all links. The domain is small, so a code can still be *guessed*, like any other: with
//! a thousand million links, one guess in 3,500 hits.

use std::fmt;

use crate::domain::{CODES, Code};

/// As many as FF1 (SP 800-38G, section 5.1).
const ROUNDS: u64 = 10;

/// The domain of the left half: three digits.
const LEFT: u64 = 62_u64.pow(3);

/// The domain of the right half: four digits.
const RIGHT: u64 = 62_u64.pow(4);

/// A secret bijection on the numbers below [`CODES`].
#[derive(Clone, Copy)]
pub struct Permutation {
    key: [u64; 2],
}

impl Permutation {
    /// The permutation that belongs to a key. Another key is another permutation: codes made under one mean other links,
    /// or none, under the next.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(key);
        let (low, high) = (number & u128::from(u64::MAX), number >> 64);
        Self {
            // Both halves have 64 bits by construction.
            key: [
                u64::try_from(low).unwrap_or_default(),
                u64::try_from(high).unwrap_or_default(),
            ],
        }
    }

    /// The code that stands for a number.
    #[must_use]
    pub fn code_of(&self, number: Code) -> Code {
        let (mut left, mut right) = (number.number() / RIGHT, number.number() % RIGHT);
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                left = (left + self.hash(round, right) % LEFT) % LEFT;
            } else {
                right = (right + self.hash(round, left) % RIGHT) % RIGHT;
            }
        }
        join(left, right)
    }

    /// The number that a code stands for.
    #[must_use]
    pub fn number_of(&self, code: Code) -> Code {
        let (mut left, mut right) = (code.number() / RIGHT, code.number() % RIGHT);
        for round in (0..ROUNDS).rev() {
            if round % 2 == 0 {
                left = (left + LEFT - self.hash(round, right) % LEFT) % LEFT;
            } else {
                right = (right + RIGHT - self.hash(round, left) % RIGHT) % RIGHT;
            }
        }
        join(left, right)
    }

    /// Round and half fit one word: a half has 24 bits.
    fn hash(&self, round: u64, half: u64) -> u64 {
        sip_hash(self.key, round << 32 | half)
    }
}

/// The key stays out of logs.
impl fmt::Debug for Permutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permutation(secret)")
    }
}

fn join(left: u64, right: u64) -> Code {
    debug_assert!(left * RIGHT + right < CODES);
    Code::new(left * RIGHT + right).expect("both halves are below their moduli")
}

/// SipHash-2-4 of one 64-bit word. The standard library's hasher is SipHash too, but takes no key and promises no version.
fn sip_hash([k0, k1]: [u64; 2], word: u64) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    // The message's last block holds nothing but its length in bytes.
    for block in [word, 8 << 56] {
        v[3] ^= block;
        sip_round(&mut v);
        sip_round(&mut v);
        v[0] ^= block;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        sip_round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hasher;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher24;

    use super::*;

    fn number(n: u64) -> Code {
        Code::new(n).unwrap()
    }

    #[test]
    fn the_walk_through_in_the_essay_is_what_the_code_does() {
        let permutation = Permutation::new([0; 16]);
        let essay = include_str!("permutation.rs");
        for n in 0..3 {
            let line = format!("//! {n}        {}", permutation.code_of(number(n)));
            assert!(essay.lines().any(|found| found == line), "the essay lacks {line:?}");
        }
    }

    #[test]
    fn ten_thousand_neighbours_are_no_neighbours_outside() {
        let permutation = Permutation::new(*b"sixteen byte key");
        let codes: Vec<u64> = (0..10_000).map(|n| permutation.code_of(number(n)).number()).collect();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), 10_000);
        // Of random codes, next to none differ by less than a millionth of the domain, and half of them rise.
        let near = codes
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) < CODES / 1_000_000);
        assert!(near.count() < 5);
        let rising = codes.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((4_700..5_300).contains(&rising), "{rising}");
        // Each character takes each of its 62 values about as often: chi-square, 61 degrees, far beyond the 0.1 % point.
        for place in 0..7 {
            let digit = |code: &u64| usize::try_from(code / 62_u64.pow(place) % 62).unwrap();
            let mut counts = [0_f64; 62];
            codes.iter().for_each(|code| counts[digit(code)] += 1.0);
            let expected = 10_000.0 / 62.0;
            let chi_square: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
            assert!(chi_square < 120.0, "place {place}: {chi_square}");
        }
    }

    #[test]
    fn another_key_is_another_permutation() {
        let (a, b) = (Permutation::new([1; 16]), Permutation::new([2; 16]));
        let same = (0..1_000).filter(|n| a.code_of(number(*n)) == b.code_of(number(*n)));
        assert_eq!(same.count(), 0);
    }

    proptest! {
        #[test]
        fn it_is_a_bijection(key: [u8; 16], n in 0..CODES) {
            let permutation = Permutation::new(key);
            let code = permutation.code_of(number(n));
            prop_assert_eq!(permutation.number_of(code), number(n));
            prop_assert_eq!(permutation.code_of(permutation.number_of(number(n))), number(n));
        }

        #[test]
        fn the_round_function_is_siphash_as_others_compute_it(key: [u8; 16], word: u64) {
            let mut reference = SipHasher24::new_with_key(&key);
            reference.write(&word.to_le_bytes());
            prop_assert_eq!(sip_hash(Permutation::new(key).key, word), reference.finish());
        }
    }
}
