// Validates GraphQL documents (a JSON array of texts on standard input) against GitHub's own schema (npm
// `@octokit/graphql-schema`) with the reference implementation. Prints what is wrong; ends with 1 if anything is.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.argv[2]}/`);
const { buildSchema, parse, validate } = require("graphql");
const schema = buildSchema(readFileSync(`${process.argv[2]}/node_modules/@octokit/graphql-schema/schema.graphql`, "utf8"), {
  assumeValidSDL: true,
});
const wrong = JSON.parse(readFileSync(0, "utf8")).flatMap((text) => validate(schema, parse(text)).map(String));
wrong.forEach((it) => console.log(it));
process.exit(wrong.length ? 1 : 0);
