// Which words two answers do not share, marked where they stand: the page itself stays as it is.

const MOST_WORDS = 4_000; // of each answer: the table below grows with their product

/** The words of what is shown of a card, each with the range of the page it stands in. */
function wordsOf(card) {
  const isRaw = document.documentElement.dataset.view === "raw";
  const shown = card.querySelector(isRaw ? ".prose .raw" : ".prose .rendered") ?? card.querySelector(".prose");
  const walk = document.createTreeWalker(shown, NodeFilter.SHOW_TEXT);
  const words = [];
  while (walk.nextNode() && words.length < MOST_WORDS) {
    for (const { 0: word, index } of walk.currentNode.data.matchAll(/\S+/g)) {
      words.push({ word, node: walk.currentNode, start: index, end: index + word.length });
    }
  }
  return words;
}

/** Whether each word of `these`, and of `those`, is outside their longest common subsequence. */
export function onlyIn(these, those) {
  const width = those.length + 1;
  const common = new Uint16Array((these.length + 1) * width);
  for (let i = these.length - 1; i >= 0; i -= 1) {
    for (let j = those.length - 1; j >= 0; j -= 1) {
      common[i * width + j] = these[i] === those[j]
        ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  const alone = [these.map(() => true), those.map(() => true)];
  for (let i = 0, j = 0; i < these.length && j < those.length;) {
    if (these[i] === those[j]) {
      alone[0][i] = alone[1][j] = false;
      i += 1;
      j += 1;
    } else if (common[(i + 1) * width + j] >= common[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return alone;
}

const rangeOf = ({ node, start, end }) => {
  const range = new Range();
  range.setStart(node, start);
  range.setEnd(node, end);
  return range;
};

/** Marks what differs between two cards, or nothing any more. Browsers without highlights mark nothing. */
export function markDifferences(...pair) {
  if (!("highlights" in CSS)) return;
  CSS.highlights.delete("differs");
  if (!pair.length) return;
  const words = pair.map(wordsOf);
  const alone = onlyIn(...words.map((each) => each.map(({ word }) => word)));
  const differing = words.flatMap((each, side) => each.filter((_, index) => alone[side][index]));
  CSS.highlights.set("differs", new Highlight(...differing.map(rangeOf)));
}
