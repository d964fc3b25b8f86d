//! A list whose copies share what they have in common: groups that differ in their ends cost their ends only.

use std::rc::Rc;

/// A list that grows and shrinks at its front.
#[derive(Debug)]
pub(super) struct Chain<T> {
    first: Option<Rc<Link<T>>>,
    len: usize,
}

#[derive(Debug)]
struct Link<T> {
    item: T,
    next: Option<Rc<Link<T>>>,
}

impl<T> Chain<T> {
    pub(super) fn push(&mut self, item: T) {
        let next = self.first.take();
        self.first = Some(Rc::new(Link { item, next }));
        self.len += 1;
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The items, the one pushed last first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::successors(self.first.as_deref(), |link| link.next.as_deref()).map(|link| &link.item)
    }
}

impl<T: Clone> Chain<T> {
    pub(super) fn pop(&mut self) -> Option<T> {
        let first = self.first.take()?;
        self.len -= 1;
        self.first.clone_from(&first.next);
        Some(first.item.clone())
    }
}

impl<T> Default for Chain<T> {
    fn default() -> Self {
        Self { first: None, len: 0 }
    }
}

impl<T> Clone for Chain<T> {
    fn clone(&self) -> Self {
        Self { first: self.first.clone(), len: self.len }
    }
}

impl<T> Drop for Chain<T> {
    /// One link after the other: a long list must not take a long stack.
    fn drop(&mut self) {
        let mut next = self.first.take();
        while let Some(link) = next {
            next = Rc::try_unwrap(link).ok().and_then(|mut link| link.next.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_have_ends_of_their_own() {
        let mut one = Chain::default();
        (0..3).for_each(|item| one.push(item));
        let mut other = one.clone();
        assert_eq!(other.pop(), Some(2));
        other.push(9);
        assert_eq!((one.iter().copied().collect::<Vec<_>>(), one.len()), (vec![2, 1, 0], 3));
        assert_eq!(other.iter().copied().collect::<Vec<_>>(), [9, 1, 0]);
    }

    #[test]
    fn a_long_one_takes_no_stack() {
        let mut chain = Chain::default();
        (0..1_000_000).for_each(|item| chain.push(item));
        drop(chain.clone());
        assert_eq!(chain.len(), 1_000_000);
    }
}
