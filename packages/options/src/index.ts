export { assertKnown, type OptionNames } from './option-names.ts';
