// What the programs in JavaScript share: where to ask, and one line of JSON for each step.
export const url = process.env.HEADRACE_URL;
export const key = process.env.HEADRACE_KEY;
export const model = process.env.HEADRACE_MODEL;
export const question = "What is the weather in Oslo?";
export const weather = (city) => `${process.env.HEADRACE_MARK} in ${city}`;
export const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};

// `want`: "mark" if the answer has to repeat what the tool said, "words" if any text will do.
export async function step(name, want, run) {
  try {
    const got = await run();
    console.log(JSON.stringify({ step: name, want, got: typeof got === "string" ? got : JSON.stringify(got) }));
  } catch (fault) {
    const said = [fault.statusCode ?? fault.status, fault.message, fault.responseBody];
    console.log(JSON.stringify({ step: name, want, fault: said.filter(Boolean).join(" ") }));
  }
}
