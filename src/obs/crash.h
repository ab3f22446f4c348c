/* crash.h: a last report from a process that is about to die of a signal. */
#ifndef OBS_CRASH_H
#define OBS_CRASH_H

/* SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT (a failed ASSERT) write version, signal, address,
 * thread and a backtrace to standard error, then take their usual course (core dump, exit status).
 * Once, early in main. A stack overflow is reported for the calling thread only: the others have
 * no second stack. */
void crash_init(void);

#endif
