/** What a start may be told. */
export interface StartOptions {
  /**
   * The collector: its address, with a slash at its end or without, or that of its `beacon.js`. Without a scheme it is a host
   * (`impact.example.org`), asked by the page's scheme; what begins with `/` or `.` is a path, resolved against the page.
   * Default: the page's own origin.
   */
  url?: string | URL;
  /**
   * The token (a JWT) of a user who is signed in already. One that is missing, malformed or expired
   * means a visitor.
   */
  token?: string | null;
  /**
   * Sends nothing, now or later, where the browser signals Global Privacy Control or Do Not Track.
   * Default: false, and neither is read.
   */
  respectOptOut?: boolean;
}

/**
 * Counts this page load as one session, once the page is seen. Returns at once, never throws, and
 * does nothing when it is called again.
 */
export function start(options?: StartOptions): void;

/**
 * Makes the session that of the user who has signed in or registered. May be called before `start`
 * or its answer: it is sent after it, or with the page where that is left before. Returns at once, never throws. The first token that the
 * collector accepts decides; without one, nothing is sent.
 */
export function upgrade(token: string | null | undefined): void;
