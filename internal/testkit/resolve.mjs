// Finds in the folder of SDKs what a script imports and has not beside it.
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";

const sdks = pathToFileURL(process.env.KONSTRUCT_TEST_SDKS + "/script.mjs").href;

registerHooks({
  resolve(specifier, context, next) {
    try {
      return next(specifier, context);
    } catch (error) {
      if (/^(\.|\/|file:)/.test(specifier)) throw error;
      return next(specifier, { ...context, parentURL: sdks });
    }
  },
});
