// Reads notifications from standard input, and prints whether each package accepts them. The argument is the folder of
// the packages.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const load = createRequire(`${process.argv[2]}/`);
const results = JSON.parse(readFileSync(0)).map(({ secret, body, headers }) =>
  ["standardwebhooks", "svix"].map((name) => {
    try {
      return new (load(name).Webhook)(secret).verify(body, headers).id;
    } catch (error) {
      return error.message;
    }
  }),
);
console.log(JSON.stringify(results));
