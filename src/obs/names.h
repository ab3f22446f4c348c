/* names.h: every metric and every log event, one row each (STYLE.md H41, H42). To add one, add a
 * row; nothing else names it. */
#ifndef OBS_NAMES_H
#define OBS_NAMES_H

/* ---- metrics ----
 * id, name, type, label keys (comma-separated, values bounded by METRIC_SERIES_MAX), buckets, help.
 * Names are those that dashboards read (no prefix) or bud_<component>_<what>_<unit>. */
#define METRIC_TABLE(X)                                                                            \
    X(HTTP_REQUESTS, "http_requests_total", COUNTER, "status", NONE,                               \
      "HTTP requests answered, by status code.")                                                   \
    X(HTTP_DURATION, "http_request_duration_seconds", HISTOGRAM, "", REQUEST,                      \
      "Time from the request's head to the last byte of its answer.")                              \
    X(HTTP_CONNECTIONS, "bud_http_connections", GAUGE, "", NONE, "Open client connections.")       \
    X(CONNS_REFUSED, "bud_connections_refused_total", COUNTER, "reason", NONE,                     \
      "Connections refused: cap, peer (another user's process), memory.")                          \
    X(TLS_REFUSED, "bud_tls_refused_total", COUNTER, "side,reason", NONE,                          \
      "TLS handshakes that failed, as server or client, and why.")                                 \
    X(TLS_LOAD_FAILURES, "bud_tls_load_failures_total", COUNTER, "", NONE,                         \
      "Certificates or keys that were to be loaded anew and could not be.")                        \
    X(HTTP_REFUSED, "bud_http_refused_total", COUNTER, "reason", NONE,                             \
      "Messages and streams refused below the API: malformed, slow, over a size, a flood.")        \
    X(RESOLVE_FAILURES, "bud_resolve_failures_total", COUNTER, "", NONE,                           \
      "Names of upstreams that the resolver could not find.")                                      \
    X(MODEL_REQUESTS, "model_requests_total", COUNTER, "model", NONE,                              \
      "Inference requests taken in, by model.")                                                    \
    X(TOKENS_GENERATED, "tokens_generated_total", COUNTER, "model", NONE,                          \
      "Tokens generated, by model.")                                                               \
    X(PROMPT_TOKENS, "bud_prompt_tokens_total", COUNTER, "model", NONE,                            \
      "Prompt tokens processed, by model.")                                                        \
    X(REQUESTS_RUNNING, "bud_requests_running", GAUGE, "model", NONE,                              \
      "Sequences in the running batch, by model.")                                                 \
    X(REQUESTS_WAITING, "bud_requests_waiting", GAUGE, "model", NONE,                              \
      "Sequences waiting for a place in the batch, by model.")                                     \
    X(FIRST_TOKEN, "bud_time_to_first_token_seconds", HISTOGRAM, "model", FIRST_TOKEN,             \
      "Time from a request's arrival to its first token, by model.")                               \
    X(INTER_TOKEN, "bud_inter_token_latency_seconds", HISTOGRAM, "model", INTER_TOKEN,             \
      "Time between two tokens of one sequence, by model.")                                        \
    X(REQUESTS_FINISHED, "bud_requests_finished_total", COUNTER, "model,reason", NONE,             \
      "Sequences ended, by model and reason: stop, length, cancelled or error.")                   \
    X(PREEMPTIONS, "bud_preemptions_total", COUNTER, "model", NONE,                                \
      "Sequences that gave their place or pages to others and were put back in line, by model.")   \
    X(KV_PAGES_USED, "bud_kv_pages_used", GAUGE, "model", NONE,                                    \
      "Key/value pages held by sequences, by model.")                                              \
    X(KV_PAGES_TOTAL, "bud_kv_pages_total", GAUGE, "model", NONE, "Key/value pages, by model.")    \
    X(PREFIX_LOOKED_UP, "bud_prefix_cache_queries_total", COUNTER, "model", NONE,                  \
      "Prompt tokens looked up in the prefix cache, by model.")                                    \
    X(PREFIX_HITS, "bud_prefix_cache_hits_total", COUNTER, "model", NONE,                          \
      "Prompt tokens found in the prefix cache, by model.")                                        \
    X(STEP_DURATION, "bud_step_duration_seconds", HISTOGRAM, "model", INTER_TOKEN,                 \
      "Time of one step of the engine, by model.")                                                 \
    X(STEP_RATIO, "bud_step_observed_ratio", GAUGE, "model", NONE,                                 \
      "Observed over predicted time of the latest steps, a running mean: 1 is exact.")             \
    X(DRAFT_TOKENS, "bud_draft_tokens_total", COUNTER, "model", NONE,                              \
      "Tokens guessed by speculation and checked, by model.")                                      \
    X(DRAFT_ACCEPTED, "bud_draft_accepted_tokens_total", COUNTER, "model", NONE,                   \
      "Guessed tokens that were right, by model.")                                                 \
    X(ADMISSION_REFUSED, "bud_admission_refused_total", COUNTER, "model,reason", NONE,             \
      "Requests refused by the scheduler: line full, wait too long or deadline not to be met.")    \
    X(PROMPT_COMPUTED, "bud_prompt_tokens_computed_total", COUNTER, "model", NONE,                 \
      "Prompt tokens that the engine computed: those not found in the prefix cache, by model.")    \
    X(LAST_STEP, "bud_last_step_timestamp_seconds", GAUGE, "model", NONE,                          \
      "When the engine last ended a step, in seconds since 1970, by model.")                       \
    X(EMBED_BATCHES, "bud_embed_batches_total", COUNTER, "model", NONE,                            \
      "Batches of texts embedded or ranked, by model.")                                            \
    X(EMBED_TEXTS, "bud_embed_texts_total", COUNTER, "model", NONE,                                \
      "Texts embedded or ranked, by model.")                                                       \
    X(EMBED_TOKENS, "bud_embed_tokens_total", COUNTER, "model", NONE,                              \
      "Tokens of the texts embedded or ranked, by model.")                                         \
    X(STREAMS_FAILED, "bud_streams_failed_total", COUNTER, "model", NONE,                          \
      "Streams that had begun and ended with an error, by model.")                                 \
    X(UPSTREAM_RETRIES, "bud_upstream_retries_total", COUNTER, "", NONE,                           \
      "Requests sent to a model server once more after an attempt broke.")                         \
    X(HEDGES, "bud_hedges_total", COUNTER, "won", NONE,                                            \
      "Requests sent to a second server too, by who began first: first, second or none.")          \
    X(UPSTREAM_SUSPECTS, "bud_upstream_suspects_total", COUNTER, "", NONE,                         \
      "Times a server was passed over because a due token did not come.")                          \
    X(FALLBACKS, "bud_fallbacks_total", COUNTER, "", NONE,                                         \
      "Requests answered by a fallback model, since no server of their own was well.")             \
    X(ANSWERS, "bud_answers_total", COUNTER, "how", NONE,                                          \
      "Requests whose answer is kept: made and kept, or replayed from what was.")                  \
    X(ANSWERS_BYTES, "bud_answers_bytes", GAUGE, "", NONE, "Held by answers that are kept.")       \
    X(REQUESTS_REFUSED, "bud_requests_refused_total", COUNTER, "limit", NONE,                      \
      "Requests refused at a limit: line, memory, or of a key, user, project, model.")             \
    X(REDIS_UP, "bud_redis_up", GAUGE, "", NONE, "1 while the Redis server answers.")              \
    X(REDIS_COMMANDS, "bud_redis_commands_total", COUNTER, "result", NONE,                         \
      "Commands to Redis: ok, error (its answer) or lost (no answer).")                            \
    X(LIMITS_SHARED, "bud_limits_shared", GAUGE, "", NONE,                                         \
      "1 while limits hold across gateways; 0 while Redis is away and policy decides.")            \
    X(SERVER_RESTARTS, "bud_server_restarts_total", COUNTER, "", NONE,                             \
      "Model server processes started again after they died.")                                     \
    X(USAGE_RECORDS, "bud_usage_records_total", COUNTER, "", NONE,                                 \
      "Usage records written down when their requests were settled.")                              \
    X(USAGE_LOST, "bud_usage_records_lost_total", COUNTER, "", NONE,                               \
      "Requests that were served without a usage record, since the disk was full.")                \
    X(AUTH_FAILURES, "bud_auth_failures_total", COUNTER, "", NONE,                                 \
      "Requests refused for a missing or wrong key.")                                              \
    X(JWT_TOKENS, "bud_jwt_tokens_total", COUNTER, "result", NONE,                                 \
      "JSON Web Tokens by what came of them: cached, verified, or why they were refused.")         \
    X(JWKS_FETCHES, "bud_jwks_fetches_total", COUNTER, "result", NONE,                             \
      "Requests for the keys of token issuers: ok or failed.")                                     \
    X(LOG_DROPPED, "bud_log_lines_dropped_total", COUNTER, "", NONE,                               \
      "Log lines not written: over an event's rate, or the reader was too slow.")                  \
    X(SERIES_REFUSED, "bud_metric_series_refused_total", COUNTER, "", NONE,                        \
      "Label values counted as 'other' since their metric was full.")                              \
    X(BUILD_INFO, "bud_build_info", GAUGE, "version", NONE, "Always 1; the version is the label.") \
    X(PROCESS_MEMORY, "process_resident_memory_bytes", GAUGE, "", NONE, "Resident memory.")        \
    X(PROCESS_CPU, "process_cpu_seconds_total", COUNTER, "", NONE,                                 \
      "Processor time used, user and system.")                                                     \
    X(PROCESS_FDS, "process_open_fds", GAUGE, "", NONE, "Open file descriptors.")                  \
    X(PROCESS_START, "process_start_time_seconds", GAUGE, "", NONE,                                \
      "Start of the process, seconds since 1970.")

/* Upper bounds, ascending; +Inf is implied. First and inter token follow the OpenTelemetry GenAI
 * conventions, widened at both ends. */
#define METRIC_BUCKETS_TABLE(X)                                                                    \
    X(NONE, 0)                                                                                     \
    X(REQUEST, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,     \
      120, 300, 600)                                                                               \
    X(FIRST_TOKEN, 0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5,    \
      7.5, 10, 20, 40, 80)                                                                         \
    X(INTER_TOKEN, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,  \
      0.75, 1, 2.5)

/* ---- log events ----
 * id, level, component, event.action, most lines a second (0 = no limit), message.
 * Levels: error = someone must act, warn = degraded, info = life-cycle, debug = per request.
 * Keys of fields are ECS names where ECS has one; never a prompt, a reply or a key. */
#define LOG_EVENT_TABLE(X)                                                                         \
    X(PROCESS_START, INFO, "process", "process-start", 0, "process starts")                        \
    X(PROCESS_READY, INFO, "process", "process-ready", 0, "process is ready")                      \
    X(PROCESS_STOP, INFO, "process", "process-stop", 0, "process stops")                           \
    X(PROCESS_FAIL, ERROR, "process", "process-fail", 0, "process cannot go on")                   \
    X(CONFIG_WARN, WARN, "config", "config-warn", 10, "a setting is doubtful")                     \
    X(CONFIG_RELOAD, INFO, "config", "config-reload", 0, "settings read again")                    \
    X(LISTEN, INFO, "net", "listen", 0, "listening")                                               \
    X(LISTEN_FAIL, ERROR, "net", "listen-fail", 10, "cannot listen")                               \
    X(ACCEPT_FAIL, WARN, "net", "accept-fail", 5, "cannot accept a connection")                    \
    X(CONN_REFUSED, WARN, "net", "connection-refused", 5, "too many connections")                  \
    X(CONN_FAIL, DEBUG, "net", "connection-fail", 20, "a connection broke")                        \
    X(TLS_LOAD, INFO, "net", "tls-load", 10, "certificate and key loaded")                         \
    X(TLS_LOAD_FAIL, ERROR, "net", "tls-load-fail", 2, "certificate or key cannot be loaded")      \
    X(TLS_REFUSED, WARN, "net", "tls-refused", 5, "a TLS handshake failed")                        \
    X(RESOLVE_FAIL, WARN, "net", "resolve-fail", 5, "a server's name cannot be resolved")          \
    X(LOOP_SLOW, WARN, "net", "loop-slow", 5, "a callback held its loop too long")                 \
    X(ACCESS, INFO, "http", "access", 0, "request answered")                                       \
    X(REQUEST_FAIL, ERROR, "http", "request-fail", 20, "request failed on our side")               \
    X(AUTH_FAIL, WARN, "auth", "auth-fail", 10, "key refused")                                     \
    X(KEY_CREATED, INFO, "auth", "key-created", 10, "key created")                                 \
    X(AUDIT, INFO, "audit", "audit", 0, "administrative act")                                      \
    X(JWKS, INFO, "auth", "jwks", 10, "an issuer has other keys")                                  \
    X(JWKS_FAIL, WARN, "auth", "jwks-fail", 10, "the keys of an issuer cannot be had")             \
    X(STORE_OPEN, INFO, "stores", "store-open", 0, "store opened")                                 \
    X(STORE_FAIL, ERROR, "stores", "store-fail", 10, "store failed")                               \
    X(USAGE_FAIL, ERROR, "stores", "usage-fail", 5, "usage cannot be written down")                \
    X(USAGE_RECOVERED, WARN, "stores", "usage-recovered", 10, "usage of a process that died")      \
    X(REDIS_AWAY, WARN, "stores", "redis-away", 10, "Redis does not answer")                       \
    X(REDIS_WELL, INFO, "stores", "redis-well", 10, "Redis answers")                               \
    X(LIMITS_SHARED, INFO, "gateway", "limits-shared", 10, "limits hold across gateways")          \
    X(LIMITS_AWAY, WARN, "gateway", "limits-away", 10, "the limits' Redis is away: by policy")     \
    X(LIMITS_FAIL, ERROR, "gateway", "limits-fail", 5, "Redis refuses to count limits")            \
    X(ANSWERS_FAIL, ERROR, "gateway", "answers-fail", 5, "Redis refuses to keep answers")          \
    X(CATALOG, INFO, "gateway", "catalogue", 0, "another catalogue is in force")                   \
    X(MIGRATION, INFO, "stores", "migration", 0, "migration applied")                              \
    X(MODEL_LOAD, INFO, "model", "model-load", 0, "model loading")                                 \
    X(MODEL_READY, INFO, "model", "model-ready", 0, "model ready")                                 \
    X(MODEL_FAIL, ERROR, "model", "model-fail", 10, "model cannot be loaded")                      \
    X(SEQ_FAIL, ERROR, "engine", "sequence-fail", 10, "a sequence failed")                         \
    X(ENGINE_INFO, INFO, "engine", "engine-info", 10, "engine set up")                             \
    X(CHILD_START, INFO, "supervise", "child-start", 0, "model server process started")            \
    X(CHILD_READY, INFO, "supervise", "child-ready", 0, "model server process answers")            \
    X(CHILD_EXIT, WARN, "supervise", "child-exit", 0, "model server process ended")                \
    X(CHILD_FAIL, ERROR, "supervise", "child-fail", 10, "model server process cannot be started")  \
    X(UPSTREAM_FAIL, WARN, "gateway", "upstream-fail", 20, "model server failed a request")        \
    X(UPSTREAM_SUSPECT, WARN, "gateway", "upstream-suspect", 20, "a due token does not come")      \
    X(UPSTREAM_AWAY, WARN, "gateway", "upstream-away", 20, "a server does not answer any more")    \
    X(UPSTREAM_WELL, INFO, "gateway", "upstream-well", 20, "a server answers again")               \
    X(BREAKER_OPEN, WARN, "gateway", "breaker-open", 20, "a server fails too often: left alone")   \
    X(BREAKER_CLOSED, INFO, "gateway", "breaker-closed", 20, "a server is used again")             \
    X(ODD, WARN, "odd", "odd", 5, "something strange that is not fatal")

/* Keys that several components write. */
#define LOG_KEY_REQUEST_ID  "http.request.id"
#define LOG_KEY_METHOD      "http.request.method"
#define LOG_KEY_STATUS      "http.response.status_code"
#define LOG_KEY_BYTES_OUT   "http.response.body.bytes"
#define LOG_KEY_PATH        "url.path"
#define LOG_KEY_ADDRESS     "server.address"
#define LOG_KEY_CLIENT      "client.address"
#define LOG_KEY_DURATION_NS "event.duration"
#define LOG_KEY_ERROR       "error.message"
#define LOG_KEY_ERROR_CODE  "error.code"
#define LOG_KEY_FILE        "file.path"
#define LOG_KEY_PID         "process.pid"
#define LOG_KEY_EXIT_CODE   "process.exit_code"
#define LOG_KEY_TRACE_ID    "trace.id"
#define LOG_KEY_TENANT      "organization.id"
#define LOG_KEY_MODEL       "gen_ai.request.model"
#define LOG_KEY_TOKENS_IN   "gen_ai.usage.input_tokens"
#define LOG_KEY_TOKENS_OUT  "gen_ai.usage.output_tokens"

#endif
