"""The HTTP server: OpenAI's endpoints over one loaded model and one voice. The only room that imports a web framework.

`app` has the routes, `schema` what a request may hold, `worker` the model as an event loop uses it, `chat`,
`transcription` and `speech` the endpoints, `limits` and `errors` what is refused and how, `run` the process.
"""
