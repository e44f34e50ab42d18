/** V8 copies what is cut out of a text when it is shorter than this. */
const shortestPart = 13;

/**
 * The same text, apart from any other: Node.js keeps the whole of a long text for as long as a part of it is kept that was cut out,
 * so that a few bytes of a header would hold all of it.
 */
export function ownText(text: string): string {
  // Put together and cut anew, it is a part of nothing but itself.
  return text.length < shortestPart ? text : ` ${text}`.slice(1);
}
