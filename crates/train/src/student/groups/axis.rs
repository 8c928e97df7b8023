//! The algebra of axes: of which independent extents an axis is made.
//!
//! An axis is a run of *segments* one after the other (what a concatenation makes), and a segment is a product of
//! *factors* in row-major order (what a reshape makes: 12 heads of 64 features, a channel's pixels after a flatten). A
//! factor is a known extent or a *variable*: channels, heads, hidden units that may become fewer. Whatever couples two
//! axes is one statement, [`Book::unify`], and refines both until they are made of the same variables: a variable may turn
//! out to be another, a product, a sum, or an extent that must stay.

/// The extent that stands for the batch: a prime larger than any that networks have, so that it never mixes with others.
pub const BATCH: usize = 1_000_003;

/// More copies of a run of segments than this are not told apart: their extents stay.
const COPIES: usize = 1024;

/// An independent extent.
pub type Var = usize;

/// A factor of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    Fixed(usize),
    Var(Var),
}

/// A product of factors, the first outermost; empty for an extent of 1.
pub type Segment = Vec<Factor>;

/// Segments one after the other.
pub type Axis = Vec<Segment>;

/// What is known of every variable.
#[derive(Debug, Default)]
pub struct Book {
    entries: Vec<Entry>,
    /// How many of them had to stay.
    fixes: usize,
}

/// Why an extent stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is one of a kernel's, which nobody thinks of as a width.
    Kernel,
    /// In words.
    Other(String),
}

impl From<&str> for Reason {
    fn from(why: &str) -> Reason {
        Reason::Other(why.into())
    }
}

impl From<&String> for Reason {
    fn from(why: &String) -> Reason {
        Reason::Other(why.clone())
    }
}

#[derive(Debug)]
struct Entry {
    extent: usize,
    /// What the variable turned out to be; `None`: it is independent.
    is: Option<Axis>,
    /// Why its extent must stay, where it must.
    fixed: Option<Reason>,
}

impl Book {
    /// A new independent extent. One of 1 cannot become less: it is no variable; nor is the batch, but what stands beside
    /// it in the same axis is.
    pub fn fresh(&mut self, extent: usize) -> Axis {
        if extent > BATCH && extent.is_multiple_of(BATCH) {
            return vec![vec![Factor::Fixed(BATCH), Factor::Var(self.add(extent / BATCH))]];
        }
        if extent <= 1 || extent == BATCH {
            return known(extent);
        }
        vec![vec![Factor::Var(self.add(extent))]]
    }

    fn add(&mut self, extent: usize) -> Var {
        self.entries.push(Entry { extent, is: None, fixed: None });
        self.entries.len() - 1
    }

    /// The extent that a variable has in the teacher.
    pub fn extent(&self, var: Var) -> usize {
        self.entries[var].extent
    }

    /// How many variables there were, refined ones among them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Why a variable's extent must stay, if it must.
    pub fn reason(&self, var: Var) -> Option<&Reason> {
        self.entries[var].fixed.as_ref()
    }

    fn size(&self, factor: Factor) -> usize {
        match factor {
            Factor::Fixed(n) => n,
            Factor::Var(var) => self.entries[var].extent,
        }
    }

    fn segment_size(&self, segment: &[Factor]) -> usize {
        segment.iter().map(|&f| self.size(f)).product()
    }

    /// The axis in terms of independent variables.
    pub fn resolve(&mut self, axis: &[Segment]) -> Axis {
        loop {
            let result = self.resolve_once(axis);
            // A later part may have said of an earlier one that it stays; which ones stay only grows.
            let is_refined = |f: &Factor| matches!(f, Factor::Var(v) if self.entries[*v].is.is_some());
            if !result.iter().flatten().any(is_refined) {
                return result;
            }
        }
    }

    fn resolve_once(&mut self, axis: &[Segment]) -> Axis {
        let mut result: Axis = vec![];
        for segment in axis {
            for piece in self.expand(segment.clone()) {
                match (result.last().map(Vec::as_slice), piece.as_slice()) {
                    // Known extents one after the other are one known extent.
                    (Some([] | [Factor::Fixed(_)]), [] | [Factor::Fixed(_)]) => {
                        let sum = self.segment_size(result.last().expect("there is one")) + self.segment_size(&piece);
                        *result.last_mut().expect("there is one") = vec![Factor::Fixed(sum)];
                    }
                    _ => result.push(piece),
                }
            }
        }
        result
    }

    /// A segment with its variables replaced by what they are. Definitions hold no cycles: a variable is defined once, by newer
    /// ones or by one that was independent then.
    fn expand(&mut self, segment: Segment) -> Axis {
        let (mut open, mut done) = (vec![segment], vec![]);
        while let Some(mut segment) = open.pop() {
            let refined = |f: &Factor| matches!(f, Factor::Var(v) if self.entries[*v].is.is_some());
            let Some(place) = segment.iter().position(refined) else {
                done.push(self.tidy(&segment));
                continue;
            };
            let Factor::Var(var) = segment[place] else { unreachable!("only variables are refined") };
            let is = self.definition(var);
            if let [one] = &is[..] {
                segment.splice(place..=place, one.iter().copied());
                open.push(segment);
                continue;
            }
            let (outer, inner) = (segment[..place].to_vec(), &segment[place + 1..]);
            let parts: Vec<Segment> = is.iter().rev().map(|s| [s.as_slice(), inner].concat()).collect();
            match self.known_copies(&outer, &is) {
                Some(copies) => (0..copies).for_each(|_| open.extend(parts.iter().cloned())),
                None => open.push(segment),
            }
        }
        done
    }

    /// What a refined variable is. Where it is another one that is another one, that is remembered without what is between.
    fn definition(&mut self, var: Var) -> Axis {
        let alias = |entry: &Entry| match entry.is.as_deref() {
            Some([one]) => match one[..] {
                [Factor::Var(other)] => Some(other),
                _ => None,
            },
            _ => None,
        };
        let mut chain = vec![var];
        while let Some(other) = alias(&self.entries[chain[chain.len() - 1]]) {
            chain.push(other);
        }
        let last = chain.pop().expect("it holds the variable itself");
        for &link in &chain {
            self.entries[link].is = Some(vec![vec![Factor::Var(last)]]);
        }
        match &self.entries[last].is {
            Some(is) => is.clone(),
            None => vec![vec![Factor::Var(last)]],
        }
    }

    /// How often a sum is repeated by the known factors around it. A sum within a variable number of copies has no form:
    /// the copies stay then; within very many, what is summed stays; `None` after either.
    fn known_copies(&mut self, outer: &[Factor], sum: &Axis) -> Option<usize> {
        let vars = outer.iter().any(|f| matches!(f, Factor::Var(_)));
        if vars {
            self.fix(&[outer.to_vec()], "it repeats channels that are joined from several parts");
            // The factors are known now; the caller looks again.
            return None;
        }
        let copies: usize = outer.iter().map(|&f| self.size(f)).product();
        if copies > COPIES {
            self.fix(sum, "it is repeated very often");
            return None;
        }
        Some(copies)
    }

    /// Adjacent known factors are one; factors of 1 are none.
    fn tidy(&self, segment: &[Factor]) -> Segment {
        let mut result: Segment = vec![];
        for &factor in segment {
            match (result.last_mut(), factor) {
                (_, Factor::Fixed(1)) => (),
                (Some(Factor::Fixed(a)), Factor::Fixed(b)) => *a *= b,
                _ => result.push(factor),
            }
        }
        result
    }

    /// Every independent variable in an axis, each once.
    #[cfg(test)]
    fn vars(&mut self, axis: &[Segment]) -> Vec<Var> {
        let mut found = vec![];
        for factor in self.resolve(axis).concat() {
            if let Factor::Var(var) = factor
                && !found.contains(&var)
            {
                found.push(var);
            }
        }
        found
    }

    /// Every variable in the axis keeps its extent.
    pub fn fix(&mut self, axis: &[Segment], why: impl Into<Reason>) {
        let why = why.into();
        let mut open: Vec<Factor> = axis.concat();
        while let Some(factor) = open.pop() {
            let Factor::Var(var) = factor else { continue };
            let entry = &mut self.entries[var];
            match &entry.is {
                Some(is) => open.extend(is.iter().flatten()),
                None => {
                    entry.is = Some(known(entry.extent));
                    entry.fixed.get_or_insert_with(|| why.clone());
                    self.fixes += 1;
                }
            }
        }
    }

    /// How many variables had to stay so far.
    pub fn fixes(&self) -> usize {
        self.fixes
    }

    /// The variables an axis was first made of whose extent must stay, each once.
    pub fn fixed_within(&self, axis: &[Segment]) -> Vec<Var> {
        let mut found = vec![];
        let mut open: Vec<Factor> = axis.iter().rev().flat_map(|s| s.iter().rev().copied()).collect();
        while let Some(factor) = open.pop() {
            let Factor::Var(var) = factor else { continue };
            match (&self.entries[var].fixed, &self.entries[var].is) {
                (Some(_), _) if found.contains(&var) => (),
                (Some(_), _) => found.push(var),
                (None, Some(is)) => open.extend(is.iter().rev().flat_map(|s| s.iter().rev().copied())),
                (None, None) => (),
            }
        }
        found
    }

    fn define(&mut self, var: Var, is: Axis) {
        debug_assert!(self.entries[var].is.is_none());
        self.entries[var].is = Some(is);
    }

    /// Two axes of one extent are made of the same variables. Where no refinement makes them so, both stay as they are.
    /// `why` names the node that says so.
    pub fn unify(&mut self, a: &[Segment], b: &[Segment], why: &str) {
        // Every round refines a variable, and there are finitely many refinements.
        while self.refine(a, b, why) {}
    }

    /// Makes the first difference of two axes smaller; false when there is none.
    fn refine(&mut self, a: &[Segment], b: &[Segment], why: &str) -> bool {
        let fixes = self.fixes;
        let (mut a, mut b) = (self.resolve(a), self.resolve(b));
        if self.fixes > fixes {
            // The second may have said of the first that a part of it stays.
            return true;
        }
        let sizes = |axis: &Axis| axis.iter().map(|s| self.segment_size(s)).collect::<Vec<_>>();
        let (of_a, of_b) = (sizes(&a), sizes(&b));
        if of_a.iter().sum::<usize>() != of_b.iter().sum::<usize>() || of_a.contains(&0) || of_b.contains(&0) {
            let reason = format!("what meets at {why} differs in extent");
            self.fix(&a, &reason);
            self.fix(&b, &reason);
            return false;
        }
        a.reverse();
        b.reverse();
        while let (Some(x), Some(y)) = (a.pop(), b.pop()) {
            let (m, n) = (self.segment_size(&x), self.segment_size(&y));
            let longer = match m.cmp(&n) {
                std::cmp::Ordering::Equal => match self.refine_product(&x, &y, why) {
                    true => return true,
                    false => continue,
                },
                std::cmp::Ordering::Greater => {
                    b.push(y);
                    self.cut(x, n, &mut a, why)
                }
                std::cmp::Ordering::Less => {
                    a.push(x);
                    self.cut(y, m, &mut b, why)
                }
            };
            if longer {
                return true;
            }
        }
        false
    }

    /// Cuts a segment behind its first `at` places and pushes the pieces, the first last. True when a variable had to be
    /// refined for it: the axes have another form then.
    fn cut(&mut self, segment: Segment, at: usize, onto: &mut Axis, why: &str) -> bool {
        let (head, rest) = (segment[0], segment[1..].to_vec());
        let (extent, inner) = (self.size(head), self.segment_size(&rest));
        let whole = at / inner;
        match head {
            Factor::Var(var) if at.is_multiple_of(inner) => {
                let parts = vec![vec![Factor::Var(self.add(whole))], vec![Factor::Var(self.add(extent - whole))]];
                let parts = parts.into_iter().map(|p| self.at_least_two(p)).collect();
                self.define(var, parts);
                true
            }
            Factor::Var(_) => {
                self.fix(&[vec![head]], &format!("{why} cuts it at places that are no channel's end"));
                true
            }
            Factor::Fixed(n) => {
                let times = |k: usize| self.tidy(&[&[Factor::Fixed(k)], rest.as_slice()].concat());
                if at.is_multiple_of(inner) {
                    onto.extend([times(n - whole), times(whole)]);
                } else {
                    // The cut is within one of the copies, which stands alone from here on.
                    let after = n - whole - 1;
                    onto.extend((after > 0).then(|| times(after)));
                    onto.push(self.tidy(&rest));
                    onto.extend((whole > 0).then(|| times(whole)));
                }
                false
            }
        }
    }

    /// A variable of extent 1 is none.
    fn at_least_two(&self, segment: Segment) -> Segment {
        if self.segment_size(&segment) == 1 { vec![] } else { segment }
    }

    /// Makes the first difference of two products of one extent smaller; false when there is none.
    fn refine_product(&mut self, a: &[Factor], b: &[Factor], why: &str) -> bool {
        let (mut a, mut b) = (a.to_vec(), b.to_vec());
        a.reverse();
        b.reverse();
        while let (Some(x), Some(y)) = (a.pop(), b.pop()) {
            let (m, n) = (self.size(x), self.size(y));
            match (x, y) {
                (Factor::Var(v), Factor::Var(w)) if v == w => (),
                (Factor::Fixed(_), Factor::Fixed(_)) if m == n => (),
                (Factor::Var(v), Factor::Var(w)) if m == n => {
                    // The older one stands for both.
                    self.define(v.max(w), vec![vec![Factor::Var(v.min(w))]]);
                    return true;
                }
                (Factor::Var(v), Factor::Fixed(_)) | (Factor::Fixed(_), Factor::Var(v)) if m == n => {
                    self.fix(&[vec![Factor::Var(v)]], &format!("it meets as many that are given, at {why}"));
                    return true;
                }
                _ => {
                    let (larger, small, side) = if m > n { (x, n, &mut a) } else { (y, m, &mut b) };
                    let other = if m > n { y } else { x };
                    let large = m.max(n);
                    if !large.is_multiple_of(small) {
                        let all = [a, b].concat();
                        self.fix(&[all, vec![x, y]], &format!("what meets at {why} does not line up"));
                        return true;
                    }
                    match larger {
                        Factor::Var(var) => {
                            self.factor(var, small);
                            return true;
                        }
                        Factor::Fixed(_) => side.extend([Factor::Fixed(large / small), Factor::Fixed(small)]),
                    }
                    // The other one meets its share in the next round.
                    if m > n { b.push(other) } else { a.push(other) }
                }
            }
        }
        // What is left over is made of factors of 1.
        false
    }

    /// A variable turns out to be `outer` times the rest.
    fn factor(&mut self, var: Var, outer: usize) {
        let inner = self.entries[var].extent / outer;
        let pair = vec![Factor::Var(self.add(outer)), Factor::Var(self.add(inner))];
        self.define(var, vec![pair]);
    }

    /// One axis for several that a reshape merges, the first outermost.
    pub fn product(&mut self, axes: &[Axis]) -> Axis {
        let mut result: Axis = vec![vec![]];
        for axis in axes {
            loop {
                let (outer, inner) = (self.resolve(&result), self.resolve(axis));
                if let [one] = &inner[..] {
                    result = outer.iter().map(|s| self.tidy(&[s.as_slice(), one].concat())).collect();
                    break;
                }
                let outer = outer.concat();
                match self.known_copies(&outer, &inner) {
                    Some(copies) => {
                        result = (0..copies).flat_map(|_| inner.clone()).collect();
                        break;
                    }
                    None => continue,
                }
            }
        }
        result
    }

    /// The axes of these extents that a reshape makes of one axis, the first outermost.
    pub fn split(&mut self, axis: &[Segment], extents: &[usize], why: &str) -> Vec<Axis> {
        let Some((&first, rest)) = extents.split_first() else { return vec![] };
        if rest.iter().all(|&n| n == 1) {
            let ones = rest.iter().map(|_| known(1));
            return std::iter::once(self.resolve(axis)).chain(ones).collect();
        }
        let inner: usize = rest.iter().product();
        if first == 1 {
            return std::iter::once(known(1)).chain(self.split(axis, rest, why)).collect();
        }
        // What is asked for is stated as an equation; a free pair takes any form.
        let (outer, mut tail) = (self.fresh(first), self.fresh(inner));
        let resolved = self.resolve(axis);
        if resolved.len() > 1 {
            // Equal blocks of segments, one for each place of the first extent.
            self.fix(&outer, "its places hold channels that are joined from several parts");
        }
        let wanted = self.product(&[outer.clone(), tail.clone()]);
        self.unify(&wanted, axis, why);
        tail = self.resolve(&tail);
        let mut all = vec![self.resolve(&outer)];
        all.extend(self.split(&tail, rest, why));
        all
    }

    /// The axes of consecutive parts of one axis.
    pub fn parts(&mut self, axis: &[Segment], extents: &[usize], why: &str) -> Vec<Axis> {
        let parts: Vec<Axis> = extents.iter().map(|&n| self.fresh(n)).collect();
        let whole = parts.concat();
        self.unify(&whole, axis, why);
        parts.iter().map(|p| self.resolve(p)).collect()
    }
}

/// An axis of a known extent.
pub fn known(extent: usize) -> Axis {
    vec![if extent == 1 { vec![] } else { vec![Factor::Fixed(extent)] }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(book: &mut Book, axis: &Axis) -> String {
        let factor = |f: &Factor| match f {
            Factor::Fixed(n) => n.to_string(),
            Factor::Var(v) => format!("v{v}"),
        };
        let segments = book.resolve(axis);
        segments.iter().map(|s| s.iter().map(factor).collect::<Vec<_>>().join("*")).collect::<Vec<_>>().join("+")
    }

    #[test]
    fn heads_are_a_factor_of_features() {
        let mut book = Book::default();
        let features = book.fresh(768);
        let heads = book.split(&features, &[12, 64], "");
        assert_eq!((text(&mut book, &heads[0]), text(&mut book, &heads[1])), ("v1".into(), "v2".into()));
        let merged = book.product(&heads);
        assert_eq!(text(&mut book, &merged), "v1*v2");
        assert_eq!(text(&mut book, &features), "v1*v2");
        // Fixing one of the two leaves the other.
        book.fix(&heads[1], "");
        assert_eq!(text(&mut book, &features), "v1*64");
    }

    #[test]
    fn a_fused_projection_is_three_parts() {
        let mut book = Book::default();
        let fused = book.fresh(96);
        let parts = book.parts(&fused, &[32, 32, 32], "");
        assert_eq!(book.resolve(&fused), parts.concat());
        let heads = book.split(&parts[0], &[4, 8], "");
        assert_eq!(book.resolve(&fused).len(), 3);
        assert_eq!(book.vars(&fused).len(), 4);
        assert_eq!(book.vars(&heads[0]).len(), 1);
    }

    #[test]
    fn a_shuffle_of_two_joined_branches_makes_them_equal_and_halves_them() {
        let mut book = Book::default();
        let (a, b) = (book.fresh(8), book.fresh(8));
        let joined = [a.clone(), b.clone()].concat();
        let split = book.split(&joined, &[2, 8], "");
        assert_eq!(text(&mut book, &split[0]), "2");
        assert_eq!(book.resolve(&a), book.resolve(&b));
        let shuffled = book.product(&[split[1].clone(), split[0].clone()]);
        let halves = book.parts(&shuffled, &[8, 8], "");
        assert_eq!(book.vars(&halves[0]).len(), 1);
        assert_eq!(book.vars(&a).len(), 2);
        let all = book.resolve(&joined);
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn what_has_no_common_form_stays() {
        let mut book = Book::default();
        let (a, b) = (book.fresh(12), book.fresh(12));
        let _ = book.split(&a, &[3, 4], "");
        let _ = book.split(&b, &[4, 3], "");
        book.unify(&a, &b, "a node");
        assert_eq!((text(&mut book, &a), text(&mut book, &b)), ("12".into(), "12".into()));
    }

    #[test]
    fn a_known_extent_meets_a_joined_one() {
        let mut book = Book::default();
        let joined = [book.fresh(4), book.fresh(6)].concat();
        book.unify(&known(10), &joined, "a node");
        assert_eq!(text(&mut book, &joined), "10");
        assert_eq!(book.reason(0), Some(&"it meets as many that are given, at a node".into()));
    }
}
