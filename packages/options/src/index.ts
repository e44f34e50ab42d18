export { assertKnown, type OptionNames, unknownOption } from './option-names.ts';
