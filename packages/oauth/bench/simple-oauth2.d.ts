/** The part of simple-oauth2, which comes without types, that the benchmark uses. */
declare module 'simple-oauth2' {
  export class ClientCredentials {
    constructor(options: {
      readonly client: { readonly id: string; readonly secret: string };
      readonly auth: { readonly tokenHost: string; readonly tokenPath: string };
    });
    getToken(parameters: { readonly scope?: string }): Promise<{
      expired(windowSeconds: number): boolean;
    }>;
  }
}
