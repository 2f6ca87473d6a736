//! Small sorted maps and sets.
//!
//! What clinit counts is workers, slots and lanes: tens of them, hundreds at
//! the most. A sorted vector is as quick there as a tree, and std's trees come
//! to about 5 kB of code for each pair of types (docs/decisions/0003).

/// A map, sorted by its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Table<K, V> {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// The entries, by their keys.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// The entries, by their keys.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The keys, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, by their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The values, by their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// Keeps only these. `Vec::retain_mut` has what decides in it twice.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let mut index = 0;
        while let Some((key, value)) = self.entries.get_mut(index) {
            if keep(key, value) {
                index += 1;
            } else {
                self.entries.remove(index);
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K: Ord, V> Table<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| known.cmp(key))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let index = self.find(key).ok()?;
        self.entries.get(index).map(|(_, value)| value)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let index = self.find(key).ok()?;
        self.entries.get_mut(index).map(|(_, value)| value)
    }

    /// Whether there is a value of this key.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Sets a key's value.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(index) => {
                if let Some((_, known)) = self.entries.get_mut(index) {
                    *known = value;
                }
            }
            Err(index) => self.entries.insert(index, (key, value)),
        }
    }

    /// Sets the value of a key that has none, and returns whether it had none.
    pub fn insert_if_new(&mut self, key: K, value: V) -> bool {
        let place = self.find(&key);
        if let Err(index) = place {
            self.entries.insert(index, (key, value));
        }
        place.is_err()
    }

    /// Takes a key out, and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.find(key).ok()?;
        Some(self.entries.remove(index).1)
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Table<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Set<T> {
    fn from(all: [T; N]) -> Self {
        all.into_iter().collect()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Table<K, V> {
    /// Of two values of one key, the later.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut table = Self::new();
        for (key, value) in entries {
            table.insert(key, value);
        }
        table
    }
}

impl<K, V> IntoIterator for Table<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

/// A set, sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Set<T>(Table<T, ()>);

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Set<T> {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Table::new())
    }

    /// What is in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps only these.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|of, ()| keep(of));
    }
}

impl<T: Ord> Set<T> {
    /// Puts one in, and returns whether it was not there.
    pub fn insert(&mut self, one: T) -> bool {
        self.0.insert_if_new(one, ())
    }

    /// Takes one out, and returns whether it was there.
    pub fn remove(&mut self, one: &T) -> bool {
        self.0.remove(one).is_some()
    }

    /// Whether it is in it.
    #[must_use]
    pub fn contains(&self, one: &T) -> bool {
        self.0.contains_key(one)
    }

    /// Whether all of it is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|one| other.contains(one))
    }
}

impl<T: Ord> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, more: I) {
        for one in more {
            self.insert(one);
        }
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut set = Self::new();
        set.extend(all);
        set
    }
}

impl<T> IntoIterator for Set<T> {
    type Item = T;
    type IntoIter = std::iter::Map<std::vec::IntoIter<(T, ())>, fn((T, ())) -> T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(one, ())| one)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The house's generator: xorshift.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn it_is_what_a_tree_is() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let (mut table, mut tree) = (Table::new(), BTreeMap::new());
        for _ in 0..20_000 {
            let (key, value) = (random(&mut state) % 24, random(&mut state));
            match random(&mut state) % 8 {
                0..4 => {
                    table.insert(key, value);
                    tree.insert(key, value);
                }
                4..6 => assert_eq!(table.remove(&key), tree.remove(&key)),
                6 => {
                    let is_new = !tree.contains_key(&key);
                    assert_eq!(table.insert_if_new(key, value), is_new);
                    tree.entry(key).or_insert(value);
                    assert_eq!(table.get(&key), tree.get(&key));
                    assert_eq!(table.get_mut(&key), tree.get_mut(&key));
                    assert_eq!(table.contains_key(&key), tree.contains_key(&key));
                }
                _ => {
                    table.retain(|key, _| key % 3 != value % 3);
                    tree.retain(|key, _| key % 3 != value % 3);
                }
            }
            assert!(table.iter().eq(tree.iter()));
            assert_eq!(
                (table.len(), table.is_empty()),
                (tree.len(), tree.is_empty())
            );
        }
        assert_eq!(
            tree.clone().into_iter().rev().collect::<Table<_, _>>(),
            table
        );
        assert!(table.keys().eq(tree.keys()) && table.values().eq(tree.values()));
        table.clear();
        assert!(table.is_empty());
    }

    #[test]
    fn a_set_is_too() {
        let of = |numbers: &[u32]| -> Set<u32> { numbers.iter().copied().collect() };
        let set = of(&[3, 1, 2, 1]);
        let tree = BTreeSet::from([1, 2, 3]);
        assert!(set.iter().eq(tree.iter()) && set.len() == 3 && !set.is_empty());
        assert!(of(&[1, 3]).is_subset(&set) && !set.is_subset(&of(&[1, 3])));
        assert!(of(&[]).is_subset(&of(&[])));
        let mut set = set;
        assert!(!set.insert(2) && set.insert(0) && set.remove(&3) && !set.remove(&3));
        set.retain(|one| *one != 1);
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [0, 2]);
    }
}
