const features = [
  'accelerometer',
  'ambient-light-sensor',
  'attribution-reporting',
  'autoplay',
  'bluetooth',
  'browsing-topics',
  'camera',
  'captured-surface-control',
  'clipboard-read',
  'clipboard-write',
  'compute-pressure',
  'cross-origin-isolated',
  'display-capture',
  'encrypted-media',
  'fullscreen',
  'gamepad',
  'geolocation',
  'gyroscope',
  'hid',
  'identity-credentials-get',
  'idle-detection',
  'keyboard-map',
  'local-fonts',
  'magnetometer',
  'microphone',
  'midi',
  'otp-credentials',
  'payment',
  'picture-in-picture',
  'publickey-credentials-create',
  'publickey-credentials-get',
  'screen-wake-lock',
  'serial',
  'speaker-selection',
  'storage-access',
  'sync-xhr',
  'unload',
  'usb',
  'web-share',
  'window-management',
  'xr-spatial-tracking',
] as const;

/** A feature that `Permissions-Policy` can turn off. */
export type PermissionsPolicyFeature = (typeof features)[number];

/**
 * Who may use which feature: `[]` nobody, `['self']`, origins, `['*']` everybody; `false` leaves one out. What is not named is as it is by default.
 */
export type PermissionsPolicy = {
  readonly [Feature in PermissionsPolicyFeature]?: false | readonly string[];
};

/** What neither an API nor a plain page needs. */
const unneeded: PermissionsPolicy = {
  accelerometer: [],
  'browsing-topics': [],
  camera: [],
  'display-capture': [],
  geolocation: [],
  gyroscope: [],
  hid: [],
  'idle-detection': [],
  magnetometer: [],
  microphone: [],
  midi: [],
  payment: [],
  serial: [],
  usb: [],
  'xr-spatial-tracking': [],
};

/**
 * The value of `Permissions-Policy` (W3C Permissions Policy §9.1).
 * @throws TypeError for what browsers would ignore in silence: a feature that does not exist, somebody who is no origin.
 */
export function serialisePermissionsPolicy(policy: PermissionsPolicy): string {
  if (typeof policy !== 'object' || policy === null || Array.isArray(policy)) {
    throw refusal('must be false or an object of features');
  }
  const lines = Object.entries({ ...unneeded, ...policy }).flatMap(([feature, allowed]) =>
    allowed === false || allowed === undefined ? [] : [serialised(feature, allowed)],
  );
  if (lines.length === 0) throw refusal('it is empty; false sends none');
  return lines.join(', ');
}

function serialised(feature: string, allowed: readonly string[]): string {
  if (!(features as readonly string[]).includes(feature)) {
    throw refusal(`there is no feature ${JSON.stringify(feature)}`);
  }
  if (!Array.isArray(allowed)) throw refusal(`${feature} must be a list, or false`);
  if (allowed.length === 1 && allowed[0] === '*') return `${feature}=*`;
  const members = allowed.map((who) => {
    if (who === 'self') return 'self';
    if (!URL.canParse(who) || new URL(who).origin !== who) {
      throw refusal(`${feature}: ${JSON.stringify(who)} is neither "self" nor an origin`);
    }
    return `"${who}"`;
  });
  return `${feature}=(${members.join(' ')})`;
}

function refusal(reason: string): TypeError {
  return new TypeError(`securityHeaders: permissionsPolicy: ${reason}`);
}
